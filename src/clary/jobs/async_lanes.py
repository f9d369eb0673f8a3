"""Where asynchronous calls of an endpoint can go now, and who waits for a place.

One lane for each endpoint that has something to do. It counts the calls of each instance, so that
none gets more than ``MaxConcurrentInvocationsPerInstance``.
"""

import asyncio
import random
from collections import Counter, deque

from clary.jobs.async_plan import InstanceLoad, choose_place, held_limit, instance_limit
from clary.router.router import Router
from clary.router.table import Instance, PipelineInstance, Variant

MEAN_WEIGHT = 0.1
"""Share of the newest call in the moving average of their times."""


class Place:
    """A call's place at an instance."""

    __slots__ = ("instance", "variant")

    def __init__(self, variant: Variant, instance: Instance) -> None:
        self.variant = variant
        self.instance = instance


class Lane:
    """The places of one endpoint."""

    def __init__(self, router: Router, endpoint: str) -> None:
        self._router = router
        self._endpoint = endpoint
        self._in_use: Counter[str] = Counter()
        self._waiting: deque[asyncio.Future[Place]] = deque()
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

    async def enter(self) -> Place:
        """Return a place for a call, in the order of asking; ``leave`` gives it back.

        Waits without end: who asks sets a time limit.
        """
        if not self._waiting:
            place = self._choose()
            if place is not None:
                return place
        future: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.leave(future.result())
            elif future in self._waiting:
                self._waiting.remove(future)
            raise

    def leave(self, place: Place, took_s: float | None = None) -> None:
        """Give a place back.

        Args:
            place: As ``enter`` returned it.
            took_s: How long the container took, where it answered.
        """
        self._in_use[place.instance.id] -= 1
        if self._in_use[place.instance.id] <= 0:
            del self._in_use[place.instance.id]
        if took_s is not None:
            self.mean_s += (took_s - self.mean_s) * (MEAN_WEIGHT if self.mean_s else 1.0)
        self.look()

    def look(self) -> None:
        """Give places to those who wait: routes have changed, or a worker has come back."""
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            place = self._choose()
            if place is None:
                return
            self._waiting.popleft().set_result(place)

    def _choose(self) -> Place | None:
        loads = self._loads()
        chosen = choose_place([load for load, _ in loads], random.random())  # noqa: S311 - no secret
        for load, place in loads:
            if load is chosen:
                self._in_use[place.instance.id] += 1
                return place
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
