"""What a launcher promises.

A launcher starts instances and tells how they are. To everything above it a worker is an address,
and never a process: the same interface stands for processes here, containers and other machines.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

from clary.resources.routing_table import ContainerRoute


class InstanceState(StrEnum):
    """How a launched instance is."""

    STARTING = "starting"
    """No worker of some container has answered a ping yet."""
    HEALTHY = "healthy"
    """A worker of every container answered its last ping."""
    UNHEALTHY = "unhealthy"
    """It was healthy and is not now; its host is mending it."""
    FAILED = "failed"
    """It gave up, for a reason. Final."""
    STOPPING = "stopping"
    LOST = "lost"
    """It is watched by nobody any more, without having been told to stop. Final; its workers may
    serve on for a while."""


FINAL = frozenset({InstanceState.FAILED, InstanceState.LOST})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """A model that a host of a multi-model endpoint holds, by what the host says."""

    name: str
    state: Literal["loading", "ready", "failed", "unloading"]
    address: str = ""
    memory_kib: int = 0
    reason: str = ""
    """Why it could not be loaded, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceStatus:
    """What a launcher knows of an instance."""

    state: InstanceState
    reason: str | None = None
    """Why it is failed or lost, for people."""

    failed_containers: tuple[str, ...] = ()
    """Names of those that could not be loaded."""

    containers: tuple[ContainerRoute, ...] = ()
    """With the workers that answered their last ping; of a lost instance, those that listen yet."""

    models: tuple[ModelStatus, ...] = ()
    """Of a multi-model endpoint, where the host holds them."""

    spare_memory_kib: int = 0
    """Memory of the process that waits for the next model, where the host holds them."""

    wanted_workers: int | None = None
    """How many workers the host was told to have, of a serverless variant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOrder:
    """What to launch."""

    instance_id: str
    label: str
    """``<endpoint>/<variant>/<instance>``, for lists of processes."""

    spec_file: Path
    """``spec.json`` (docs/architecture.md), already written."""

    run_dir: Path
    """Where the instance's sockets are; exists."""

    log: Path
    """Where its output goes; the directory exists."""


class Launcher(Protocol):
    """Starts, watches and stops instances.

    ``start`` and ``stop`` are idempotent by id, and neither waits for the instance. Whatever
    changes, ``on_change`` (given at construction) is called with the instance's id.
    """

    async def open(self) -> Sequence[str]:
        """Find what still runs, watch it, and return the ids.

        Raises:
            TransientError: Whoever knows does not answer.
        """
        ...

    async def start(self, order: LaunchOrder) -> None:
        """Start an instance, unless it was started and has not been stopped since.

        Raises:
            TransientError: It could not be started now.
        """
        ...

    def status(self, instance_id: str) -> InstanceStatus | None:
        """Return how an instance is; None when it was never started, or is gone after a stop."""
        ...

    def tell(self, instance_id: str, request: Mapping[str, Any]) -> None:
        """Send a request to an instance's host; its status says what becomes of it.

        Raises:
            TransientError: The host cannot be reached now.
        """
        ...

    async def stop(self, instance_id: str) -> None:
        """Have an instance stop: politely, and by force when it takes too long."""
        ...

    async def close(self) -> None:
        """Stop watching. Instances go on."""
        ...


OnUsage = Callable[[str, Mapping[str, Any]], None]
"""Called with an instance's id and what its processes use (``worker/usage.py``)."""

OnChange = Callable[[str], None]
