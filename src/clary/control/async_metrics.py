"""Measures asynchronous endpoints: what waits, and what became of what has ended.

Both are read from the queue, so that nothing is lost or counted twice, whichever process dies; and
what was not heard of, from the outbox, which may lose a count when this process dies.
"""

import asyncio
import logging
from collections.abc import Mapping

from clary.clock import Clock
from clary.control.async_points import backlog_points, ended_points, notification_failure
from clary.errors import TransientError
from clary.metrics.endpoint_metrics import Measured
from clary.metrics.series import MetricStore
from clary.resources.routing_table import EndpointRoute
from clary.store.async_leases import AsyncLeases
from clary.store.async_queue import AsyncQueue
from clary.store.outbox import Outbox

ENDED_S = 2.0
"""How often it is looked what has ended, in seconds."""

AT_ONCE = 1000
SOURCE = "async"

_log = logging.getLogger(__name__)


class AsyncMetrics:
    """Turns the queue into metrics.

    Args:
        queue: What waits.
        leases: What has ended.
        outbox: Notifications that were given up.
        store: Where the metrics go.
        clock: Wall time.
        interval_s: Pause between two measurings of the backlog, in seconds.
    """

    def __init__(
        self,
        queue: AsyncQueue,
        leases: AsyncLeases,
        outbox: Outbox,
        store: MetricStore,
        clock: Clock,
        *,
        interval_s: float,
    ) -> None:
        self._queue = queue
        self._leases = leases
        self._outbox = outbox
        self._store = store
        self._clock = clock
        self._interval_s = interval_s
        self._routes: dict[str, EndpointRoute] = {}
        mark: Mapping[str, object] = store.marks(SOURCE).get((SOURCE, "ended"), {})
        self._ended_seq = int(str(mark.get("seq", 0)))

    def follow_route(self, name: str, route: EndpointRoute | None) -> None:
        """Take a route as it is published, or that an endpoint has none any more."""
        if route is None or route.asynchronous is None:
            self._routes.pop(name, None)
        else:
            self._routes[name] = route

    async def run(self) -> None:
        """Measure for ever."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._measure_backlogs())
            loops.create_task(self._measure_ended())

    async def _measure_backlogs(self) -> None:
        while True:
            # At full minutes, so that each has a value.
            now = self._clock.now().timestamp()
            await asyncio.sleep(self._interval_s - now % self._interval_s)
            try:
                await self.measure_backlogs()
            except TransientError as error:
                _log.warning("the backlog is not measured: %s", error)

    async def measure_backlogs(self) -> None:
        """Give each endpoint's backlog metrics a value."""
        if not self._routes:
            return
        backlogs = {each.endpoint: each for each in await self._queue.backlogs()}
        now = self._clock.now()
        for name, route in self._routes.items():
            instances = sum(len(variant.instances) for variant in route.variants)
            for each in backlog_points(name, backlogs.get(name), instances=instances, now=now):
                self._add(each)

    async def _measure_ended(self) -> None:
        while True:
            try:
                await self.measure_ended()
                await self.measure_given_up()
            except TransientError as error:
                _log.warning("invocations are measured later: %s", error)
            await asyncio.sleep(ENDED_S)

    async def measure_ended(self) -> None:
        """Measure what has ended since the last time."""
        while True:
            ended = await self._leases.ended_after(self._ended_seq, AT_ONCE)
            for invocation in ended:
                variant = self._variant_of(invocation.endpoint)
                for each in ended_points(invocation, variant=variant):
                    self._add(each)
            if ended:
                self._ended_seq = ended[-1].ended_seq
                self._store.mark(SOURCE, "ended", {"seq": self._ended_seq})
            if len(ended) < AT_ONCE:
                return

    async def measure_given_up(self) -> None:
        """Measure notifications that were given up, and forget them."""
        for endpoint in await self._outbox.take_given_up():
            self._add(notification_failure(endpoint, variant=self._variant_of(endpoint)))

    def _variant_of(self, endpoint: str) -> str:
        route = self._routes.get(endpoint)
        return route.variants[0].name if route is not None else "AllTraffic"

    def _add(self, measured: Measured) -> None:
        self._store.add(
            measured.key, at=self._clock.now(), value=measured.values, unit=measured.unit
        )
