"""What a serverless variant may have: memory, concurrency, and how much of it is kept warm. Pure.

A serverless variant has no instances that anybody counts. Its one host on this machine runs as many
workers as calls need, none when nobody calls (docs/decisions/0007-scale-to-zero.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clary.errors import InvalidRequest, LimitExceeded
from clary.resources.model import Model

MEMORY_STEP_MB = 1024
MB_PER_VCPU = 1769
"""AWS gives processors in proportion to memory and does not say in which; this is Lambda's."""

_REFUSED_IN_CONFIG = ("DataCaptureConfig", "AsyncInferenceConfig", "VpcConfig", "ExplainerConfig")
_REFUSED_IN_VARIANT = (
    "AcceleratorType",
    "ManagedInstanceScaling",
    "RoutingConfig",
    "CoreDumpConfig",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerlessCapacity:
    """What can be changed of a serverless variant that runs."""

    max_concurrency: int
    """Most calls at once, 1 to 200; more are throttled."""

    provisioned: int = 0
    """Workers that are kept when nobody calls."""

    @classmethod
    def of(cls, definition: Mapping[str, Any]) -> "ServerlessCapacity":
        """Return what a ``ServerlessConfig`` asks for."""
        return cls(
            max_concurrency=int(definition["MaxConcurrency"]),
            provisioned=int(definition.get("ProvisionedConcurrency", 0)),
        )

    def to_definition(self, memory_mb: int) -> dict[str, int]:
        """Return it as a ``ServerlessConfig``; what is 0 is left out, as the model demands."""
        config = {"MemorySizeInMB": memory_mb, "MaxConcurrency": self.max_concurrency}
        if self.provisioned:
            config["ProvisionedConcurrency"] = self.provisioned
        return config

    def check(self, variant_name: str) -> None:
        """Refuse a provisioned concurrency that calls could never use.

        Raises:
            InvalidRequest: It is greater than the maximum.
        """
        if self.provisioned > self.max_concurrency:
            raise InvalidRequest(
                f"ProvisionedConcurrency {self.provisioned} cannot be greater than MaxConcurrency "
                f'{self.max_concurrency}, in variant "{variant_name}".'
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerlessState:
    """What is wanted of a serverless variant's capacity, and what is there."""

    desired: ServerlessCapacity
    current: ServerlessCapacity
    previous: ServerlessCapacity | None = None
    """What was wanted before the last change, to go back to."""

    @property
    def is_reached(self) -> bool:
        """Whether all that is wanted is there."""
        return self.current == self.desired

    def changed(self, desired: ServerlessCapacity) -> "ServerlessState":
        """Return the state with another wish."""
        return replace(self, desired=desired, previous=self.desired)

    def restored(self) -> "ServerlessState":
        """Return the state that a failed change goes back to."""
        return self if self.previous is None else replace(self, desired=self.previous)

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> "ServerlessState | None":
        """Return what ``dataclasses.asdict`` made; None for a variant with instances."""
        if data is None:
            return None
        previous = data.get("previous")
        return cls(
            desired=ServerlessCapacity(**data["desired"]),
            current=ServerlessCapacity(**data["current"]),
            previous=None if previous is None else ServerlessCapacity(**previous),
        )


def initial_state(definition: Mapping[str, Any] | None) -> ServerlessState | None:
    """Return the state of a new variant with this ``ServerlessConfig``; None: it has none."""
    if definition is None:
        return None
    desired = ServerlessCapacity.of(definition)
    return ServerlessState(desired=desired, current=replace(desired, provisioned=0))


def vcpus_of(memory_mb: int) -> int:
    """Return how many processors come with memory."""
    return max(1, -(-memory_mb // MB_PER_VCPU))


def check_variant(
    definition: Mapping[str, Any], config: Mapping[str, Any], *, is_shadow: bool = False
) -> None:
    """Refuse a serverless variant that asks for what such a one cannot have (endpoints.md 5).

    Args:
        definition: The variant, as the request has it; with a ``ServerlessConfig``.
        config: The request.
        is_shadow: Whether it is a shadow variant.

    Raises:
        InvalidRequest: Naming the first that does not go together.
    """
    name = definition["VariantName"]
    if is_shadow or config.get("ShadowProductionVariants"):
        raise InvalidRequest("Shadow variants are not supported for serverless endpoints.")
    serverless = definition["ServerlessConfig"]
    memory_mb = int(serverless["MemorySizeInMB"])
    if memory_mb % MEMORY_STEP_MB:
        raise InvalidRequest(
            f'MemorySizeInMB of variant "{name}" must be one of 1024, 2048, 3072, 4096, 5120 and '
            f"6144; it is {memory_mb}."
        )
    ServerlessCapacity.of(serverless).check(name)
    for member in _REFUSED_IN_VARIANT:
        if member in definition:
            raise InvalidRequest(
                f'{member} is not supported for serverless endpoints; variant "{name}" has a '
                "ServerlessConfig."
            )
    for member in _REFUSED_IN_CONFIG:
        if config.get(member):
            raise InvalidRequest(
                f'{member} is not supported for serverless endpoints; variant "{name}" has a '
                "ServerlessConfig."
            )


def why_no_model(model: Model) -> str | None:
    """Return why a model cannot be of a serverless variant, or None (endpoints.md 5)."""
    kind = None
    if len(model.containers) > 1:
        kind = "inference pipelines and models of several containers"
    elif any(container.mode == "MultiModel" for container in model.containers):
        kind = "multi-model containers"
    elif model.definition.get("VpcConfig"):
        kind = "models with a VpcConfig"
    elif not model.containers:
        kind = "models without a container"
    if kind is None:
        return None
    return f'Serverless endpoints do not support {kind}; model "{model.name}" is one.'


def check_models(models: Sequence[Model]) -> None:
    """Refuse models that no serverless variant can have.

    Raises:
        InvalidRequest: Naming the first.
    """
    for model in models:
        reason = why_no_model(model)
        if reason is not None:
            raise InvalidRequest(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerlessQuotas:
    """How much serverless capacity all endpoints together may ask for."""

    concurrency: int = 1000
    """Sum of ``MaxConcurrency`` over all endpoints."""

    endpoints: int = 50

    def check(self, added: int, used: Sequence[int], *, is_new: bool) -> None:
        """Refuse what would pass a quota.

        Args:
            added: Concurrency that a request adds.
            used: ``MaxConcurrency`` of each serverless variant that is there.
            is_new: Whether the request adds an endpoint.

        Raises:
            LimitExceeded: Naming the first that would be passed.
        """
        if is_new and len(used) + 1 > self.endpoints:
            raise _exceeded("Number of serverless endpoints", self.endpoints, len(used), 1)
        if added > 0 and sum(used) + added > self.concurrency:
            raise _exceeded(
                "Total concurrency across all serverless endpoints",
                self.concurrency,
                sum(used),
                added,
            )


def _exceeded(quota: str, limit: int, used: int, delta: int) -> LimitExceeded:
    return LimitExceeded(
        f"The account-level service limit '{quota}' is {limit}, with current utilization of {used} "
        f"and a request delta of {delta}. Please contact AWS support to request an increase for "
        "this limit. (On this server: raise serverless.max_concurrency or "
        "serverless.max_endpoints.)"
    )
