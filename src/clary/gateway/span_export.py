"""Brings spans to a collector, by a thread, so that no call waits for it.

The library's own exporter encodes, sends, and tries again for a while. Meanwhile the queue fills
up, and what has no room there is dropped.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence

from clary.gateway.spans import SpanQueue, SpanRecord, spans_of

AT_ONCE = 256
"""Invocations in one message to the collector."""

PAUSE_S = 1.0
"""Longest time that a span waits for others, in seconds."""

_log = logging.getLogger(__name__)

Send = Callable[[Sequence[SpanRecord], float], bool]
"""Brings spans away; False: it could not. Given what the wall clock is ahead of the monotonic one,
in seconds. May take long."""

Make = Callable[[], tuple[Send, Callable[[], None]]]
"""Makes ready to send, and returns what ends an attempt that is being repeated."""


class SpanExport:
    """The thread that empties the queue.

    Args:
        queue: What it takes from.
        make: Imports what is heavy; called in the thread.
    """

    def __init__(
        self, queue: SpanQueue, make: Callable[[], tuple[Send, Callable[[], None]]]
    ) -> None:
        self._queue = queue
        self._make = make
        self._is_closing = False
        self._close: Callable[[], None] = lambda: None
        self._is_failing = False
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def close(self, limit_s: float) -> None:
        """Send what is there, as far as time allows.

        Args:
            limit_s: Longest time for it, in seconds.
        """
        self._is_closing = True
        self._queue.full_enough.set()
        await asyncio.to_thread(self._thread.join, limit_s)
        self._close()  # ends an attempt that is being repeated

    def _run(self) -> None:
        send, self._close = self._make()
        while True:
            self._queue.full_enough.wait(PAUSE_S)
            self._queue.full_enough.clear()
            is_last = self._is_closing
            while records := self._queue.take(AT_ONCE):
                self._send(send, records)
            if is_last:
                return

    def _send(self, send: Send, records: Sequence[SpanRecord]) -> None:
        try:
            is_sent = send(records, time.time() - time.monotonic())
        except Exception:  # noqa: BLE001 - the next ones may be sent, whatever it is
            _log.exception("spans were not sent")
            is_sent = False
        name = "exported" if is_sent else "dropped"
        self._queue.counts[name] += sum(map(spans_of, records))
        if is_sent is self._is_failing:  # told when it begins, and when it ends
            self._is_failing = not is_sent
            _log.warning("the collector %s", "takes spans again" if is_sent else "takes no spans")
