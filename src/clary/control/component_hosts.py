"""Instances that only hold copies of inference components.

An instance of a variant without a model runs nothing itself: it is so much capacity, of which
copies take their shares. So it has a record like any other, and is healthy as soon as it is
started; with ``fleet.capacity = "strict"`` it reserves its share of the machine. To endpoints this
is a fleet like the real one, which it has inside for all other instances.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from clary.control.endpoints import InstanceFleet
from clary.errors import PermanentError
from clary.fleet.instance import InstanceOrder, ObservedInstance
from clary.fleet.launchers.base import InstanceState
from clary.resources.inference_component import ComputeResources


class RunningFleet(InstanceFleet, Protocol):
    """Who runs instances, and knows what is free of this machine (``fleet/fleet.py``)."""

    def reserve_host(self, instance_id: str, instance_type: str) -> None:
        """Reserve a share of the machine for copies.

        Raises:
            PermanentError: There is no such room.
        """
        ...

    def release_host(self, instance_id: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HostingInstance:
    """An instance that holds copies, with what it has for them."""

    id: str
    endpoint_name: str
    variant_name: str
    size: ComputeResources


class HostingFleet:
    """A fleet with instances that hold copies.

    Args:
        fleet: Runs all others.
    """

    def __init__(self, fleet: RunningFleet) -> None:
        self._fleet = fleet
        self._hosts: dict[str, ObservedInstance] = {}
        self._sizes: dict[str, ComputeResources] = {}
        self.on_change: Callable[[str], None] = lambda endpoint_name: None
        """Called with an endpoint's name when its hosts change."""

    async def observe(self, endpoint_name: str) -> Sequence[ObservedInstance]:
        """Return all instances of an endpoint that were started and are not gone yet."""
        hosts = [host for host in self._hosts.values() if host.endpoint_name == endpoint_name]
        return [*await self._fleet.observe(endpoint_name), *hosts]

    async def start(self, order: InstanceOrder) -> None:
        """Start an instance, unless one of this id was started and is not gone yet."""
        if not order.is_host:
            await self._fleet.start(order)
            return
        if order.id in self._hosts:
            return
        host = ObservedInstance(
            id=order.id,
            endpoint_name=order.endpoint_name,
            variant_name=order.variant_name,
            state=InstanceState.HEALTHY,
            is_host=True,
        )
        try:
            self._fleet.reserve_host(order.id, order.instance_type)
        except PermanentError as error:
            host = replace(host, state=InstanceState.FAILED, reason=error.message)
        self._hosts[order.id] = host
        self._sizes[order.id] = ComputeResources.of_type(order.size)
        self.on_change(order.endpoint_name)

    async def stop(self, instance_id: str) -> None:
        """Have an instance stop."""
        host = self._hosts.pop(instance_id, None)
        if host is None:
            await self._fleet.stop(instance_id)
            return
        del self._sizes[instance_id]
        self._fleet.release_host(instance_id)
        self.on_change(host.endpoint_name)

    def hosts(self) -> list[HostingInstance]:
        """Return the instances that hold copies, and may get some."""
        return [
            HostingInstance(
                id=host.id,
                endpoint_name=host.endpoint_name,
                variant_name=host.variant_name,
                size=self._sizes[host.id],
            )
            for host in self._hosts.values()
            if host.state is InstanceState.HEALTHY
        ]

    def ids(self) -> Collection[str]:
        """Return the ids of all instances."""
        return {*self._fleet.ids(), *self._hosts}

    async def discard(self, ids: Collection[str]) -> None:
        """Stop instances that no record knows."""
        for instance_id in [each for each in ids if each in self._hosts]:
            await self.stop(instance_id)
        await self._fleet.discard([each for each in ids if each not in self._hosts])
