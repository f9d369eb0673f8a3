"""An instance, as it is ordered from the fleet and as the fleet sees it."""

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from math import ceil
from typing import Any

from clary.fleet.launchers.base import InstanceState
from clary.resources.inference_component import ComputeResources
from clary.resources.instance_types import InstanceType, instance_type
from clary.resources.model import ContainerDefinition, Model, container_name
from clary.resources.routing_table import ContainerRoute
from clary.resources.serverless import vcpus_of
from clary.resources.transform_job import job_of_route

SERVERLESS = "serverless"
"""Stands for an instance type where there is none."""


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
    """Or the inference component that it is a copy of."""

    instance_type: str
    model: Model | None
    """None: it runs nothing itself, and holds copies of inference components."""

    startup_timeout_s: float | None = None
    """Time to the first answered ping. None: the setting of the server."""

    download_timeout_s: float | None = None
    """Time to fetch and unpack the model. None: the setting of the server."""

    invocation_timeout_s: float | None = None
    """Longest time in one call before the worker is taken to hang. None: the server's setting."""

    serverless_memory_mb: int | None = None
    """Memory of each worker of a serverless variant, whose workers come and go. None: it has a
    fixed number of workers, by its type."""

    share: ComputeResources | None = None
    """Of a copy of an inference component: what it takes of its instance."""

    hosted_variant: str = ""
    """Of a copy: the variant that it is placed on."""

    @property
    def is_host(self) -> bool:
        """Whether it is an instance that only holds copies."""
        return self.model is None

    @property
    def containers(self) -> tuple[ContainerDefinition, ...]:
        """What it runs."""
        return () if self.model is None else self.model.containers

    @property
    def container_names(self) -> tuple[str, ...]:
        """The names of what it runs."""
        if self.model is None:
            return ()
        return tuple(container_name(self.model, i) for i in range(len(self.model.containers)))

    @property
    def size(self) -> InstanceType:
        """What it has for itself: a copy only its share, and at least one vCPU."""
        if self.serverless_memory_mb is not None:
            return InstanceType(
                name=SERVERLESS,
                vcpus=vcpus_of(self.serverless_memory_mb),
                memory_gib=self.serverless_memory_mb / 1024,
            )
        if self.share is None:
            return instance_type(self.instance_type)
        return InstanceType(
            name=self.instance_type,
            vcpus=max(ceil(self.share.cpu_cores), 1),
            memory_gib=self.share.memory_mib / 1024,
            gpus=self.share.accelerators,
        )

    @property
    def reserved(self) -> InstanceType:
        """What it reserves of the machine: of a copy, its instance has all but the GPUs already."""
        if self.share is None:
            return self.size
        return replace(self.size, vcpus=0, memory_gib=0.0)

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
        if self.share is not None:
            return f"components/{self.variant_name}/{self.hosted_variant}/{self.id}.log"
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

    is_host: bool = False
    """It runs nothing itself, and holds copies of inference components."""

    containers: tuple[ContainerRoute, ...] = ()
    """With the workers that can take invocations now."""

    wanted_workers: int | None = None
    """Of a serverless variant: how many its host was told last."""

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
