"""An inference component: one model on an endpoint that has none of its own, in so many copies.

A copy is one container with its workers. It is placed on an instance of the endpoint's variant, of
which it takes as much as the component says that it needs (``ComputeResources``). The statuses::

    Creating ──▶ InService ◀──▶ Updating          Deleting ──▶ (gone)
        │            ▲ └─ fewer copies than wanted, with a FailureReason
        ▼            └── an update that fails goes back to what ran before
      Failed

An adapter component has no copies: it is loaded beside the model of its base component.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from math import ceil
from typing import Any

from clary.resources.instance_types import InstanceType
from clary.resources.model import Model

HOSTS_PREFIX = "inference-components/"
"""Begins the name under which the copies of all components of an endpoint are kept."""

_ROUTE_PREFIX = "inference-component/"


class ComponentStatus(StrEnum):
    """As AWS writes them."""

    CREATING = "Creating"
    IN_SERVICE = "InService"
    UPDATING = "Updating"
    FAILED = "Failed"
    DELETING = "Deleting"


class Placement(StrEnum):
    """How copies are spread over instances (``SchedulingConfig.PlacementStrategy``)."""

    SPREAD = "SPREAD"
    """Evenly, for resilience: the instance with the fewest copies of the component."""
    BINPACK = "BINPACK"
    """Onto few instances: the fullest one that has room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeResources:
    """What one copy needs, or one instance has."""

    cpu_cores: float = 0.0
    accelerators: int = 0
    memory_mib: int = 0

    def fits(self, other: "ComputeResources") -> bool:
        """Whether ``other`` has room in this. Cores come in quarters: no rounding is lost."""
        return (
            other.cpu_cores <= self.cpu_cores
            and other.accelerators <= self.accelerators
            and other.memory_mib <= self.memory_mib
        )

    def minus(self, other: "ComputeResources") -> "ComputeResources":
        """Return what is left. May be negative."""
        return ComputeResources(
            cpu_cores=self.cpu_cores - other.cpu_cores,
            accelerators=self.accelerators - other.accelerators,
            memory_mib=self.memory_mib - other.memory_mib,
        )

    @classmethod
    def of_type(cls, size: InstanceType) -> "ComputeResources":
        """Return what an instance of a type has."""
        return cls(
            cpu_cores=float(size.vcpus),
            accelerators=size.gpus,
            memory_mib=int(size.memory_gib * 1024),
        )

    @classmethod
    def required(cls, requirements: Mapping[str, Any]) -> "ComputeResources":
        """Return what ``ComputeResourceRequirements`` ask for, for one copy."""
        return cls(
            cpu_cores=float(requirements.get("NumberOfCpuCoresRequired", 0.0)),
            accelerators=ceil(requirements.get("NumberOfAcceleratorDevicesRequired", 0)),
            memory_mib=int(requirements.get("MinMemoryRequiredInMb", 0)),
        )

    def words(self) -> str:
        """Return it for people: what is 0 is left out."""
        parts = [
            f"{self.cpu_cores:g} CPU cores" if self.cpu_cores else "",
            f"{self.accelerators} accelerators" if self.accelerators else "",
            f"{self.memory_mib} MB of memory" if self.memory_mib else "",
        ]
        return ", ".join(part for part in parts if part) or "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentSpec:
    """What the copies of a component run."""

    definition: Mapping[str, Any]
    """``Specification``, or the one of ``Specifications`` that fits the variant, JSON types."""

    model: Model | None
    """Snapshot. None for an adapter."""

    @property
    def needs(self) -> ComputeResources:
        """What one copy takes of its instance."""
        return ComputeResources.required(self.definition.get("ComputeResourceRequirements", {}))

    @property
    def placement(self) -> Placement:
        """Which instance a copy goes to."""
        named = self.definition.get("SchedulingConfig", {}).get("PlacementStrategy")
        return Placement(named) if named else Placement.SPREAD

    @property
    def startup_timeout_s(self) -> float | None:
        """Time to the first answered ping, in seconds. None: the setting of the server."""
        timeout = self._startup.get("ContainerStartupHealthCheckTimeoutInSeconds")
        return None if timeout is None else float(timeout)

    @property
    def download_timeout_s(self) -> float | None:
        """Time to fetch the model, in seconds. None: the setting of the server."""
        timeout = self._startup.get("ModelDataDownloadTimeoutInSeconds")
        return None if timeout is None else float(timeout)

    @property
    def artifact_url(self) -> str:
        """Where an adapter lies."""
        return str(self.definition.get("Container", {}).get("ArtifactUrl", ""))

    @property
    def _startup(self) -> Mapping[str, Any]:
        startup: Mapping[str, Any] = self.definition.get("StartupParameters", {})
        return startup


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentUpdate:
    """A rolling update under way: what it leaves behind, and how far it has come."""

    old: ComponentSpec
    old_revision: int
    started_at: datetime
    batch: int = 1
    """The batch that is being started, from 1."""

    baking_since: datetime | None = None
    """When the batch took traffic. None: it is not there yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingPolicy:
    """How a component is updated (``DeploymentConfig.RollingUpdatePolicy``)."""

    size_type: str = "CAPACITY_PERCENT"
    size: int = 100
    wait_s: float = 0.0
    """How long the alarms are watched after each batch."""

    timeout_s: float | None = None
    alarms: tuple[str, ...] = ()

    def batch(self, copies: int) -> int:
        """Return how many copies are replaced at a time; rounded up, at least one."""
        if self.size_type == "COPY_COUNT":
            return max(self.size, 1)
        return max(ceil(copies * self.size / 100), 1)

    @classmethod
    def parse(cls, config: Mapping[str, Any] | None) -> "RollingPolicy":
        """Return what a ``DeploymentConfig`` says. Without one all copies are replaced at once."""
        if not config:
            return cls()
        policy = config["RollingUpdatePolicy"]
        size = policy["MaximumBatchSize"]
        alarms = config.get("AutoRollbackConfiguration", {}).get("Alarms", ())
        return cls(
            size_type=size["Type"],
            size=int(size["Value"]),
            wait_s=float(policy["WaitIntervalInSeconds"]),
            timeout_s=policy.get("MaximumExecutionTimeoutInSeconds"),
            alarms=tuple(alarm["AlarmName"] for alarm in alarms),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceComponent:
    """A component, as it is wanted and as it is."""

    name: str
    arn: str
    endpoint_name: str
    variant_name: str
    status: ComponentStatus
    failure_reason: str | None
    desired_copies: int
    current_copies: int
    """Copies that take invocations."""

    spec: ComponentSpec
    revision: int
    """Counts what its copies have had to run, from 1."""

    generation: int
    """Counts changes of what is wanted, from 1."""

    base_name: str | None = None
    """Of an adapter: the component that loads it."""

    update: ComponentUpdate | None = None
    deployment_config: Mapping[str, Any] | None = None
    definition: Mapping[str, Any] = field(default_factory=dict)
    """``Specification`` or ``Specifications`` as they were given, for Describe."""

    created_at: datetime
    modified_at: datetime

    @property
    def is_adapter(self) -> bool:
        """Whether it lives in the copies of another one."""
        return self.base_name is not None


def hosts_name(endpoint_name: str) -> str:
    """Return the name under which the copies on an endpoint are kept: no endpoint can have it."""
    return HOSTS_PREFIX + endpoint_name


def endpoint_of_hosts(name: str) -> str | None:
    """Return the endpoint whose copies are kept under this name; None: it is another name."""
    return name.removeprefix(HOSTS_PREFIX) if name.startswith(HOSTS_PREFIX) else None


def component_route(component_name: str) -> str:
    """Return the name of a component's route: one that no endpoint can have."""
    return _ROUTE_PREFIX + component_name


def component_of_route(name: str) -> str | None:
    """Return the component whose route this is; None: it is another route."""
    return name.removeprefix(_ROUTE_PREFIX) if name.startswith(_ROUTE_PREFIX) else None
