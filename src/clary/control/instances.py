"""Instances as a pass knows them, and what it can do with them."""

from dataclasses import dataclass

from clary.fleet.instance import ObservedInstance
from clary.fleet.launchers.base import FINAL, InstanceState
from clary.resources.instance import InstanceRecord


@dataclass(frozen=True, slots=True)
class AddInstance:
    """Write the record of a new instance of a variant, and start it."""

    variant_name: str
    fleet: int = 1


@dataclass(frozen=True, slots=True)
class StartInstance:
    """Start an instance that has a record, and does not run."""

    id: str
    variant_name: str
    fleet: int = 1


@dataclass(frozen=True, slots=True)
class StopInstance:
    """Mark the record, and stop the instance."""

    id: str
    drains: bool = False
    """Whether its open invocations are waited for, after it has left the route."""


@dataclass(frozen=True, slots=True)
class RemoveInstance:
    """Remove the record of an instance that was to stop, and is gone."""

    id: str


Action = AddInstance | StartInstance | StopInstance | RemoveInstance


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownInstance:
    """An instance: what was written, and what is seen."""

    record: InstanceRecord
    observed: ObservedInstance | None
    """None: the fleet has not started it in this life, or it is gone."""

    @property
    def is_healthy(self) -> bool:
        """Whether it answered a ping in this life, and can take invocations."""
        return (
            not self.record.stopping
            and self.observed is not None
            and self.observed.state is InstanceState.HEALTHY
            and (
                self.observed.is_host
                or (
                    bool(self.observed.containers)
                    and all(container.workers for container in self.observed.containers)
                )
            )
        )

    @property
    def is_over(self) -> bool:
        """Whether it has ended, and will not come back by itself."""
        return self.observed is not None and self.observed.state in FINAL

    @property
    def trouble(self) -> str | None:
        """Why its model cannot be loaded, when its host says so."""
        found = self.observed
        if found is None or found.state not in (InstanceState.UNHEALTHY, InstanceState.FAILED):
            return None
        return found.reason

    @property
    def workers(self) -> int:
        """How many workers of its first container take invocations."""
        return len(self.observed.containers[0].workers) if self.is_healthy and self.observed else 0

    @property
    def still_serves(self) -> bool:
        """Whether it is lost, but its workers live: better than nothing until it is replaced."""
        return (
            not self.record.stopping
            and self.observed is not None
            and self.observed.state is InstanceState.LOST
            and bool(self.observed.containers)
        )
