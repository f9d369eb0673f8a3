"""What the fleet keeps of an instance while it is there."""

import asyncio
from dataclasses import dataclass, replace

from clary.fleet.failures import owner_of, ping_failed
from clary.fleet.instance import ObservedInstance, Phase
from clary.fleet.launchers.base import FINAL, InstanceState, InstanceStatus
from clary.fleet.models import ModelHolder, MultiModel
from clary.resources.routing_table import ContainerRoute


@dataclass(slots=True, eq=False)
class FleetInstance:
    """What the fleet keeps of one instance that was started and is not gone yet."""

    id: str
    endpoint_name: str
    variant_name: str
    phase: Phase = Phase.DOWNLOADING
    failure: str | None = None
    """Why it could not be launched."""
    container_names: tuple[str, ...] = ("primary",)
    starting: asyncio.Task[None] | None = None
    stopping: asyncio.Task[None] | None = None
    multi_model: MultiModel | None = None
    models: ModelHolder | None = None
    """With ``multi_model``, once it is launched."""
    told: ObservedInstance | None = None
    """What watchers were told of last."""


def observed(instance: FleetInstance, status: InstanceStatus | None) -> ObservedInstance:
    """Return what an instance is like to those who look at it from outside.

    Args:
    instance: What the fleet knows of it.
    status: What its host last said; None before it runs, and when it is gone.
    """
    phase = None
    if instance.stopping is not None:
        status = InstanceStatus(state=InstanceState.STOPPING)
    elif instance.failure is not None:
        status = InstanceStatus(state=InstanceState.FAILED, reason=instance.failure)
    elif status is None:
        status = InstanceStatus(state=InstanceState.STARTING)
    elif status.state in FINAL:
        # A host that was lost says nothing of its containers: all of them are gone.
        names = status.failed_containers or instance.container_names
        owner = owner_of(instance.endpoint_name, instance.variant_name)
        reason = ping_failed(names, owner, status.reason)
        status = replace(status, reason=reason)
    if status.state is InstanceState.STARTING:
        phase = instance.phase
    if instance.multi_model is not None:
        status = _without_workers(instance.id, status)
    return ObservedInstance(
        id=instance.id,
        endpoint_name=instance.endpoint_name,
        variant_name=instance.variant_name,
        state=status.state,
        phase=phase,
        reason=status.reason,
        containers=status.containers,
        wanted_workers=status.wanted_workers,
    )


def _without_workers(instance_id: str, status: InstanceStatus) -> InstanceStatus:
    """Return the status of an instance whose models have the addresses, not the instance itself.

    Gateways hear of models by themselves; what they route to is "the models of this instance".
    """
    containers: tuple[ContainerRoute, ...] = ()
    if status.state is InstanceState.HEALTHY:
        workers = (f"models:{instance_id}",)
        containers = tuple(replace(container, workers=workers) for container in status.containers)
    return replace(status, containers=containers, models=())
