"""Measures asynchronous endpoints: what waits, and what became of what has ended.

Both are read from the queue, so that nothing is lost or counted twice, whichever process dies.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

from clary.clock import Clock
from clary.control.async_points import backlog_points, ended_points, unsent_points
from clary.errors import TransientError
from clary.metrics.endpoint_metrics import Measured
from clary.metrics.series import MetricStore
from clary.resources.routing_table import EndpointRoute
from clary.store.async_leases import AsyncLeases
from clary.store.async_queue import AsyncQueue
from clary.store.async_rows import NO_ENDPOINT
from clary.store.outbox import Outbox

ENDED_S = 2.0
"""How often it is looked what has ended, in seconds."""

AT_ONCE = 1000

COUNTED_FOR = timedelta(hours=1)
"""How long a notification that was given up stays after it was counted: longer than what was
counted is only in memory."""

SOURCE = "async"

_log = logging.getLogger(__name__)


class AsyncMetrics:
    """Turns the queue into metrics.

    Args:
        queue: What waits.
        leases: What has ended.
        outbox: Which notifications nobody got.
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
        marks: Mapping[tuple[str, str], Mapping[str, object]] = store.marks(SOURCE)
        self._ended_seq = int(str(marks.get((SOURCE, "ended"), {}).get("seq", 0)))
        unsent = marks.get((SOURCE, "unsent"), {}).get("at")
        self._unsent_at = datetime.fromisoformat(str(unsent or "1970-01-01T00:00:00+00:00"))

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
                await self.measure_unsent()
            except TransientError as error:
                _log.warning("invocations are measured later: %s", error)
            await asyncio.sleep(ENDED_S)

    async def measure_ended(self) -> None:
        """Measure what has ended since the last time."""
        while True:
            ended = await self._leases.ended_after(self._ended_seq, AT_ONCE)
            for invocation in ended:
                if invocation.endpoint == NO_ENDPOINT:
                    continue
                variant = self._variant(invocation.endpoint)
                for each in ended_points(invocation, variant=variant):
                    self._add(each)
            if ended:
                self._ended_seq = ended[-1].ended_seq
                self._store.mark(SOURCE, "ended", {"seq": self._ended_seq})
            if len(ended) < AT_ONCE:
                return

    async def measure_unsent(self) -> None:
        """Measure the notifications that were given up since the last time."""
        given_up = await self._outbox.given_up_after(self._unsent_at)
        for notification in given_up:
            variant = self._variant(notification.endpoint)
            for each in unsent_points(notification, variant=variant):
                self._add(each)
        if given_up:
            self._unsent_at = given_up[-1].at
            self._store.mark(SOURCE, "unsent", {"at": self._unsent_at.isoformat()})
        else:
            await self._outbox.forget_given_up(self._unsent_at - COUNTED_FOR)

    def _variant(self, endpoint: str) -> str:
        route = self._routes.get(endpoint)
        return route.variants[0].name if route is not None else "AllTraffic"

    def _add(self, measured: Measured) -> None:
        self._store.add(
            measured.key, at=self._clock.now(), value=measured.values, unit=measured.unit
        )
