"""A model: one or more containers, each an image with an artifact and an environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

ContainerMode = Literal["SingleModel", "MultiModel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDataSource:
    """Where an artifact lies when it is not one ``.tar.gz`` named by a URL."""

    uri: str
    """``s3://bucket/prefix/`` or ``s3://bucket/key``."""

    data_type: Literal["S3Prefix", "S3Object"]
    compression: Literal["None", "Gzip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerDefinition:
    """One container of a model."""

    image: str | None
    """Image URI, which the image table maps to a runner. None: a model package names it."""

    model_data_url: str | None = None
    """Archive of the artifact; for ``MultiModel``, the prefix that archives lie under."""

    model_data_source: ModelDataSource | None = None
    """Instead of ``model_data_url``."""

    environment: Mapping[str, str] = field(default_factory=dict)
    hostname: str | None = None
    """Name given by the user. See ``container_name`` for the one that errors and logs carry."""

    mode: ContainerMode = "SingleModel"
    caches_models: bool = True
    """For ``MultiModel``: whether a model stays loaded after a call (ModelCacheSetting)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What CreateModel accepted. Immutable."""

    name: str
    arn: str
    containers: tuple[ContainerDefinition, ...]
    """In the order in which a pipeline asks them. Empty: only inference components fill it."""

    execution_role_arn: str | None
    created_at: datetime
    definition: Mapping[str, Any]
    """The accepted request without name and tags, JSON types, as Describe must return it."""

    @property
    def is_direct(self) -> bool:
        """Whether each invocation names one of several containers, instead of asking all."""
        execution = self.definition.get("InferenceExecutionConfig", {})
        return len(self.containers) > 1 and execution.get("Mode") == "Direct"


def container_name(model: Model, index: int) -> str:
    """Return the name of a container in logs, errors and routes (runtime-errors.md 1).

    ``primary`` where there is only one, else its hostname, else ``container-N`` counted from 1.
    """
    if len(model.containers) == 1:
        return "primary"
    return model.containers[index].hostname or f"container-{index + 1}"
