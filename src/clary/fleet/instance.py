"""An instance, as it is ordered from the fleet and as the fleet sees it."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from clary.fleet.launchers.base import InstanceState
from clary.resources.model import Model
from clary.resources.routing_table import ContainerRoute
from clary.resources.transform_job import job_of_route


class Phase(StrEnum):
    """What a starting instance is busy with."""

    DOWNLOADING = "downloading"
    ENVIRONMENT = "environment"
    LOADING = "loading"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceOrder:
    """All that the fleet needs to start an instance."""

    id: str
    endpoint_name: str
    variant_name: str
    instance_type: str
    model: Model
    startup_timeout_s: float | None = None
    """Time to the first answered ping. None: the setting of the server."""

    download_timeout_s: float | None = None
    """Time to fetch and unpack the model. None: the setting of the server."""

    invocation_timeout_s: float | None = None
    """Longest time in one call before the worker is taken to hang. None: the server's setting."""

    @property
    def label(self) -> str:
        """What lists of processes call it."""
        if job_of_route(self.endpoint_name) is not None:
            return f"{self.endpoint_name}/{self.id}"
        return f"{self.endpoint_name}/{self.variant_name}/{self.id}"

    @property
    def log_path(self) -> str:
        """Where its log lies below the directory of logs (``logs/places.py``)."""
        job = job_of_route(self.endpoint_name)
        if job is not None:
            return f"transform-jobs/{job}/{self.id}.log"
        return f"endpoints/{self.label}.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedInstance:
    """What the fleet sees of one instance."""

    id: str
    endpoint_name: str
    variant_name: str
    state: InstanceState
    phase: Phase | None = None
    """While it is starting; None otherwise."""

    reason: str | None = None
    """Why it failed or was lost: whole sentences, for a ``FailureReason``."""

    containers: tuple[ContainerRoute, ...] = ()
    """With the workers that can take invocations now."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types, for people who look on."""
        return {
            "id": self.id,
            "variant": self.variant_name,
            "state": self.state,
            "phase": self.phase,
            "reason": self.reason,
            "containers": [asdict(container) for container in self.containers],
        }
