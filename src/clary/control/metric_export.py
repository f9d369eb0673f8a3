"""Brings the metrics of ``GET /metrics`` to a collector, every so often."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from clary.metrics.families import Family

_log = logging.getLogger(__name__)

Send = Callable[[Sequence[Family]], bool]
"""Brings them away; False: it could not. May take long."""


class MetricExport:
    """Gathers and sends.

    Args:
        collect: Gathers the metrics.
        make: Makes ready to send: imports what is heavy; called in a thread.
        interval_s: Pause between two messages, in seconds.
    """

    def __init__(
        self,
        collect: Callable[[], Awaitable[Sequence[Family]]],
        make: Callable[[], Send],
        interval_s: float,
    ) -> None:
        self._collect = collect
        self._make = make
        self._interval_s = interval_s
        self._is_failing = False

    async def run(self) -> None:
        """Send until cancelled. What was not taken is in the next message: values are sums."""
        send = await asyncio.to_thread(self._make)
        while True:
            await asyncio.sleep(self._interval_s)
            families = await self._collect()
            try:
                is_sent = await asyncio.to_thread(send, families)
            except Exception:  # noqa: BLE001 - the next ones may be sent, whatever it is
                _log.exception("metrics were not sent")
                is_sent = False
            if is_sent is self._is_failing:  # told when it begins, and when it ends
                self._is_failing = not is_sent
                what = "takes metrics again" if is_sent else "takes no metrics"
                _log.warning("the collector %s", what)
