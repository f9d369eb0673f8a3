"""Where asynchronous calls of an endpoint can go now, and who waits for a place.

One lane for each endpoint that has something to do. It counts the calls of each instance, so that
none gets more than ``MaxConcurrentInvocationsPerInstance``.

A call under which a worker ended before may be what ends them. It gets an instance for itself: what
ends then, ends by it, and takes no other call along.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence

from clary.jobs.async_plan import InstanceLoad, choose_place, held_limit, instance_limit
from clary.router.router import Router
from clary.router.table import Instance, PipelineInstance, Variant

MEAN_WEIGHT = 0.1
"""Share of the newest call in the moving average of their times."""


class Place:
    """A call's place at an instance."""

    __slots__ = ("instance", "is_alone", "variant")

    def __init__(self, variant: Variant, instance: Instance) -> None:
        self.variant = variant
        self.instance = instance
        self.is_alone = False
        """Whether the instance gets no other call meanwhile."""


_Waiting = deque[asyncio.Future[Place]]


class Lane:
    """The places of one endpoint."""

    def __init__(self, router: Router, endpoint: str) -> None:
        self._router = router
        self._endpoint = endpoint
        self._in_use: Counter[str] = Counter()
        self._waiting: _Waiting = deque()
        self._waiting_alone: _Waiting = deque()
        self._alone: set[str] = set()
        """Instances with a call that has them for itself."""
        self._reserved: str | None = None
        """Instance that gets no call until it has none, for the first of ``_waiting_alone``."""
        self.held = 0
        """Invocations of this endpoint that are being worked on, in whatever stage."""
        self.mean_s = 0.0
        """Mean time of a call in its container."""

    @property
    def is_there(self) -> bool:
        """Whether the endpoint takes asynchronous calls."""
        endpoint = self._router.find(self._endpoint)
        return endpoint is not None and endpoint.route.asynchronous is not None

    @property
    def limit(self) -> int:
        """How many invocations may be held."""
        return held_limit(sum(load.limit for load, _ in self._loads()), self.mean_s)

    async def enter(self, *, alone: bool = False) -> Place:
        """Return a place for a call, in the order of asking; ``leave`` gives it back.

        Waits without end: who asks sets a time limit.

        Args:
            alone: Want an instance that has no other call, and gets none meanwhile.
        """
        waiting = self._waiting_alone if alone else self._waiting
        future: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        waiting.append(future)
        self.look()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.leave(future.result())
            else:
                self.look()  # an instance may be reserved for it
            raise

    def leave(self, place: Place, took_s: float | None = None) -> None:
        """Give a place back.

        Args:
            place: As ``enter`` returned it.
            took_s: How long the container took, where it answered.
        """
        instance_id = place.instance.id
        self._in_use[instance_id] -= 1
        if self._in_use[instance_id] <= 0:
            del self._in_use[instance_id]
        if place.is_alone:
            self._alone.discard(instance_id)
        if took_s is not None:
            self.mean_s += (took_s - self.mean_s) * (MEAN_WEIGHT if self.mean_s else 1.0)
        self.look()

    def look(self) -> None:
        """Give places to those who wait: routes have changed, or a worker has come back."""
        self._give(self._waiting_alone, self._choose_alone)
        if not self._waiting_alone:
            self._reserved = None
        self._give(self._waiting, self._choose)

    def _give(self, waiting: _Waiting, choose: Callable[[], Place | None]) -> None:
        while waiting:
            if waiting[0].done():
                waiting.popleft()
                continue
            place = choose()
            if place is None:
                return
            self._in_use[place.instance.id] += 1
            waiting.popleft().set_result(place)

    def _choose(self) -> Place | None:
        closed = {*self._alone, self._reserved}
        return _chosen([pair for pair in self._loads() if pair[0].instance_id not in closed])

    def _choose_alone(self) -> Place | None:
        """Return an instance that has no call; reserve the one with the fewest if all have some."""
        usable = [pair for pair in self._loads() if pair[0].limit and pair[0].weight > 0]
        place = _chosen([pair for pair in usable if not pair[0].in_use])
        if place is not None:
            place.is_alone = True
            self._alone.add(place.instance.id)
            return place
        in_use = {load.instance_id: load.in_use for load, _ in usable}
        if self._reserved not in in_use:
            self._reserved = min(in_use, key=in_use.__getitem__, default=None)
        return None

    def _loads(self) -> list[tuple[InstanceLoad, Place]]:
        endpoint = self._router.find(self._endpoint)
        if endpoint is None or endpoint.route.asynchronous is None:
            return []
        most = endpoint.route.asynchronous.max_concurrent
        return [
            (
                InstanceLoad(
                    f"{index} {variant.name}",
                    variant.weight,
                    instance.id,
                    self._in_use[instance.id],
                    instance_limit(_concurrency(instance), most),
                ),
                Place(variant, instance),
            )
            for index, variant in enumerate(endpoint.variants)
            for instance in variant.instances
            if instance.is_usable
        ]


def _concurrency(instance: Instance) -> list[int]:
    """Return what each worker that takes calls first works on at once."""
    workers = instance.workers
    if isinstance(instance, PipelineInstance):
        workers = instance.containers[0].workers
    return [worker.channel.concurrency for worker in workers if worker.channel.is_ready]


def _chosen(loads: Sequence[tuple[InstanceLoad, Place]]) -> Place | None:
    chosen = choose_place([load for load, _ in loads], random.random())  # noqa: S311 - no secret
    return next((place for load, place in loads if load is chosen), None)
