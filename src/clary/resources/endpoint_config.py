"""An endpoint configuration: the immutable description that an endpoint points to."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductionVariant:
    """One model with a number of instances and a weight."""

    name: str
    model_name: str | None
    """None: a variant that inference components fill."""

    instance_type: str | None
    """Such as ``ml.m5.large``. None: serverless."""

    initial_instance_count: int
    """0 for a serverless variant."""

    initial_weight: float = 1.0
    """Share of the traffic, relative to the sum over all variants. 0 or more."""

    startup_timeout_s: float | None = None
    """Time to the first answered ping, in seconds. None: the setting of the server."""

    download_timeout_s: float | None = None
    """Time to fetch the artifact, in seconds. None: the setting of the server."""

    definition: Mapping[str, Any]
    """The variant as the request had it, JSON types."""

    @property
    def is_serverless(self) -> bool:
        """Whether the variant has no instances of its own."""
        return self.instance_type is None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConfig:
    """What CreateEndpointConfig accepted."""

    name: str
    arn: str
    variants: tuple[ProductionVariant, ...]
    """1 to 10, in the order of the request, names unique."""

    shadow_variants: tuple[ProductionVariant, ...] = ()
    """None, or one beside exactly one production variant."""

    created_at: datetime
    definition: Mapping[str, Any]
    """The accepted request without name and tags, JSON types, as Describe must return it."""

    @property
    def model_names(self) -> tuple[str, ...]:
        """Names of all models that the variants use, each once, in order."""
        named = (v.model_name for v in (*self.variants, *self.shadow_variants))
        return tuple(dict.fromkeys(name for name in named if name is not None))
