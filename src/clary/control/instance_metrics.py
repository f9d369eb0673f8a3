"""What instances use, as metrics: asked of their hosts, wherever these run."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Protocol

from clary.clock import Clock
from clary.metrics.component_metrics import usage_metrics
from clary.metrics.endpoint_metrics import Measured, instance_metrics
from clary.metrics.series import MetricStore
from clary.resources.inference_component import ComputeResources, endpoint_of_hosts

ANSWER_S = 2.0
"""How long hosts have to answer, before what they say is put together, in seconds. Those that take
longer count with what they said the time before."""

_log = logging.getLogger(__name__)


class MeasuredFleet(Protocol):
    """Who can ask hosts (``fleet/fleet.py``)."""

    def ask_usage(self) -> None:
        """Ask all instances that run; each answers to whoever watches."""
        ...


class InstanceMetrics:
    """Asks in turns, and takes what comes.

    Args:
        fleet: Who asks.
        store: Where the metrics go.
        clock: Wall time.
        interval_s: Pause between two turns, in seconds.
        reserved_by: Returns what a copy of an inference component has reserved.
        measure_hosting: Makes metrics of the instances that copies are on, of what each copy used.
    """

    def __init__(
        self,
        fleet: MeasuredFleet,
        store: MetricStore,
        clock: Clock,
        *,
        interval_s: float,
        reserved_by: Callable[[str], ComputeResources] = lambda component: ComputeResources(),
        measure_hosting: Callable[[Mapping[str, Mapping[str, Any]]], Awaitable[None]],
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._clock = clock
        self._interval_s = interval_s
        self._reserved_by = reserved_by
        self._measure_hosting = measure_hosting
        self._latest: dict[str, tuple[float, Mapping[str, Any]]] = {}
        """When it was measured, on the monotonic clock, and what was, by instance."""

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            # At full minutes, so that each has one point of every instance.
            await asyncio.sleep(self._pause_s(self._clock.now()))
            try:
                self._fleet.ask_usage()
                await asyncio.sleep(min(ANSWER_S, self._interval_s / 2))
                await self._measure_hosting(dict(self.latest(self._clock.monotonic())))
            except Exception:  # noqa: BLE001 - the next turn comes, whatever it is
                _log.exception("instances could not be measured")

    def take(self, endpoint: str, variant: str, instance_id: str, usage: Mapping[str, Any]) -> None:
        """Take what a host says of one instance."""
        now = self._clock.now()
        self._latest[instance_id] = (self._clock.monotonic(), usage)
        measured: Measured
        if endpoint_of_hosts(endpoint) is None:
            found = instance_metrics(endpoint, variant, instance_id, usage)
        else:  # a copy of the component that stands for its variant
            found = usage_metrics(variant, self._reserved_by(variant), usage)
        for measured in found:
            self._store.add(measured.key, at=now, value=measured.values, unit=measured.unit)

    def latest(self, now: float) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Give the id of each instance and what it used when it was last measured.

        Args:
            now: On the monotonic clock.
        """
        for instance_id, (at, usage) in list(self._latest.items()):
            if now - at > 2 * self._interval_s:
                del self._latest[instance_id]  # it is gone, or has stopped answering
            else:
                yield instance_id, usage

    def _pause_s(self, now: datetime) -> float:
        return self._interval_s - now.timestamp() % self._interval_s
