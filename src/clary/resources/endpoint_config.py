"""An endpoint configuration: the immutable description that an endpoint points to."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clary.resources.async_inference import AsyncConfig, async_config
from clary.resources.data_capture import DataCapture, active_capture
from clary.resources.routing_table import DEFAULT_ROUTING, RoutingStrategy

MOST_INSTANCES = 1_000_000
"""Stands for no upper bound."""


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
    """Share of the traffic, relative to the sum over all variants; of a shadow variant, relative to
    the production variant's. 0 or more."""

    startup_timeout_s: float | None = None
    """Time to the first answered ping, in seconds. None: the setting of the server."""

    download_timeout_s: float | None = None
    """Time to fetch the artifact, in seconds. None: the setting of the server."""

    definition: Mapping[str, Any]
    """The variant as the request had it, JSON types."""

    @property
    def is_serverless(self) -> bool:
        """Whether the variant has no instances that anybody counts."""
        return self.instance_type is None

    @property
    def serverless(self) -> Mapping[str, Any] | None:
        """The ``ServerlessConfig``; None: it has instances."""
        found: Mapping[str, Any] | None = self.definition.get("ServerlessConfig")
        return found

    @property
    def instance_bounds(self) -> tuple[int, int] | None:
        """Least and most instances that managed instance scaling allows. None: it is off."""
        scaling = self.definition.get("ManagedInstanceScaling")
        if not scaling or scaling.get("Status", "ENABLED") != "ENABLED":
            return None
        least = int(scaling.get("MinInstanceCount", 1))
        return least, int(scaling.get("MaxInstanceCount", max(least, MOST_INSTANCES)))

    def bounded(self, count: int) -> int:
        """Return the number of instances nearest to ``count`` that is allowed."""
        if self.instance_bounds is None:
            return count
        least, most = self.instance_bounds
        return min(max(count, least), most)

    @property
    def routing(self) -> RoutingStrategy:
        """How an instance is chosen for an invocation."""
        named = self.definition.get("RoutingConfig", {}).get("RoutingStrategy")
        return RoutingStrategy(named) if named else DEFAULT_ROUTING


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
    def all_variants(self) -> tuple[ProductionVariant, ...]:
        """Production variants, then shadow variants: all that have instances."""
        return (*self.variants, *self.shadow_variants)

    @property
    def capture(self) -> DataCapture | None:
        """What is captured of the calls; None: nothing."""
        return active_capture(self.definition.get("DataCaptureConfig"))

    @property
    def asynchronous(self) -> AsyncConfig | None:
        """How it takes asynchronous calls; None: it takes none."""
        return async_config(self.definition)

    @property
    def hosts_components(self) -> bool:
        """Whether its variants have no model, and wait for inference components."""
        return any(v.model_name is None for v in self.variants)

    @property
    def model_names(self) -> tuple[str, ...]:
        """Names of all models that the variants use, each once, in order."""
        named = (v.model_name for v in self.all_variants)
        return tuple(dict.fromkeys(name for name in named if name is not None))
