"""Workers of serverless variants: how many there should be, and which of them take calls.

Part of an endpoint's pass (``endpoints.py``). Before it is planned, ``view`` shows its instances
with only those workers that are to take calls; so the route, and all that counts workers, follows
from it. After the route has been published, ``scale`` tells hosts: more workers at once, fewer when
no gateway has an open call with those that left the route. Which number is right is ``target``.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from clary.control.demand import Demand
from clary.fleet.instance import ObservedInstance
from clary.resources.endpoint import Endpoint, EndpointStatus
from clary.resources.instance import InstanceRecord
from clary.resources.serverless import ServerlessCapacity


class ScaledFleet(Protocol):
    """Who tells hosts (``fleet/fleet.py``)."""

    def scale(self, instance_id: str, workers: int, ending: Collection[str]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What one host should be told."""

    instance_id: str
    workers: int
    ending: tuple[str, ...] = ()
    """Addresses of workers that the view left out."""


def target(capacity: ServerlessCapacity, needed: int, *, floor: int, most: int) -> int:
    """Return how many workers a variant should have.

    Args:
        capacity: What it may have, and what is always there.
        needed: By calls, now or a short while ago.
        floor: At least so many: 1 while it is shown that the model can be loaded.
        most: Most workers that the server gives one variant.
    """
    return max(min(needed, capacity.max_concurrency, most), capacity.provisioned, floor)


def split(addresses: Sequence[str], workers: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the workers that take calls, and those that are too many."""
    return tuple(addresses[:workers]), tuple(addresses[workers:])


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """An endpoint's instances as a pass should see them, and what their hosts should be told."""

    observed: Mapping[str, ObservedInstance]
    scales: tuple[Scale, ...] = ()
    check_again_in_s: float | None = None


class ServerlessScaling:
    """Scales the workers of serverless variants.

    Args:
        demand: What calls need.
        fleet: Who tells hosts.
        max_workers: Most workers of one variant, unless more are provisioned.
    """

    def __init__(self, demand: Demand, fleet: ScaledFleet, *, max_workers: int) -> None:
        self._demand = demand
        self._fleet = fleet
        self._max_workers = max_workers

    def view(
        self,
        endpoint: Endpoint | None,
        records: Sequence[InstanceRecord],
        observed: Mapping[str, ObservedInstance],
    ) -> View:
        """Return what a pass should see."""
        if endpoint is None:
            return View(observed=observed)
        wanted = _capacities(endpoint)
        if not wanted:
            return View(observed=observed)
        shown, scales, checks = dict(observed), [], []
        for record in records:
            found = observed.get(record.id)
            known = wanted.get((record.fleet, record.variant_name))
            if found is None or known is None or found.wanted_workers is None or record.stopping:
                continue
            capacity, floor = known
            place = (endpoint.name, record.variant_name)
            addresses = tuple(w for c in found.containers for w in c.workers)
            if addresses:
                self._demand.adopt(*place, len(addresses))
            needed, may_fall_in_s = self._demand.wanted(*place)
            workers = target(capacity, needed, floor=floor, most=self._max_workers)
            kept, ending = split(addresses, workers)
            if ending or workers != found.wanted_workers:
                scales.append(Scale(instance_id=record.id, workers=workers, ending=ending))
            shown[record.id] = replace(
                found, containers=tuple(replace(c, workers=kept) for c in found.containers)
            )
            if may_fall_in_s is not None and workers > max(capacity.provisioned, floor):
                checks.append(may_fall_in_s)
        return View(
            observed=shown, scales=tuple(scales), check_again_in_s=min(checks, default=None)
        )

    def scale(self, view: View, is_draining: Callable[[str], bool]) -> bool:
        """Tell hosts; return whether one keeps workers only because of their open calls."""
        waits = False
        for scale in view.scales:
            if scale.ending and is_draining(scale.instance_id):
                waits = True
            else:
                self._fleet.scale(scale.instance_id, scale.workers, scale.ending)
        return waits

    def forget(self, endpoint_name: str) -> None:
        """Forget an endpoint that is gone."""
        self._demand.forget(endpoint_name)


def _capacities(endpoint: Endpoint) -> dict[tuple[int, str], tuple[ServerlessCapacity, int]]:
    """Return capacity, and least workers, of serverless variants by their fleet and name."""
    is_new = endpoint.status is EndpointStatus.CREATING
    found = {
        (endpoint.fleet, state.name): (state.serverless.desired, 1 if is_new else 0)
        for state in endpoint.all_variants
        if state.serverless is not None
    }
    if endpoint.deployment is not None:
        for state in endpoint.deployment.variants:
            if state.serverless is not None:
                found[endpoint.deployment.fleet, state.name] = (state.serverless.desired, 1)
    return found
