"""Botocore's service models, loaded when they are first needed.

Only the models are used, never a botocore session: loading the largest one takes about a tenth of
a second, and most processes never need it. Where a model lacks something that this server offers,
a patch adds it: data that is merged into the model before it is read.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

from botocore.loaders import Loader
from botocore.model import ServiceModel

from clary.errors import NotFound

Shape: TypeAlias = Any
"""A botocore shape. Which members one has depends on its ``type_name``, which no type can say."""

SIGNING_NAMES: Mapping[str, tuple[str, ...]] = {
    "sagemaker": ("sagemaker", "sagemaker-runtime"),
    "sts": ("sts",),
    "s3": ("s3",),
    "application-autoscaling": ("application-autoscaling",),
    "monitoring": ("cloudwatch",),
    "logs": ("logs",),
    "sns": ("sns",),
    "sqs": ("sqs",),
    "iam": ("iam",),
    "ecr": ("ecr",),
}
"""From the service in a signature's scope to the models that sign with it."""


def candidates(signing_name: str) -> tuple[str, ...]:
    """Return the names of the services that sign with a name; empty when none is known."""
    return SIGNING_NAMES.get(signing_name, ())


class ServiceModels:
    """All service models, each read once.

    Args:
        patches: By service name, what to merge into its model. Dictionaries are merged member by
            member, everything else replaces what was there.
    """

    def __init__(self, patches: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._patches = patches or {}
        self._loader = Loader()
        self._loaded: dict[str, ServiceModel] = {}

    def get(self, service_name: str) -> ServiceModel:
        """Return a model by its service name, such as ``sagemaker-runtime``.

        Raises:
            NotFound: No such service is known here.
        """
        model = self._loaded.get(service_name)
        if model is None:
            if not any(service_name in names for names in SIGNING_NAMES.values()):
                raise NotFound(f"There is no service {service_name!r}.")
            definition = self._loader.load_service_model(service_name, "service-2")
            patch = self._patches.get(service_name)
            if patch:
                definition = _merge(definition, patch)
            model = self._loaded[service_name] = ServiceModel(definition, service_name)
        return model


def _merge(definition: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(definition)
    for name, value in patch.items():
        present = merged.get(name)
        if isinstance(present, Mapping) and isinstance(value, Mapping):
            merged[name] = _merge(present, value)
        else:
            merged[name] = value
    return merged
