"""What an asynchronous endpoint's log says of each invocation.

In the stream ``<variant>/<instance>/data-log``. Lines are gathered and written once a second; the
last second's are lost with the process.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from clary.clock import Clock
from clary.errors import Error
from clary.resources.log_group import endpoint_group
from clary.store.async_rows import Lease

FLUSH_S = 1.0
MAX_LINES = 10_000
"""Most lines that are held; more are dropped."""

NO_INSTANCE = "AllInstances"
"""In the name of the stream of what no instance has worked on."""

_log = logging.getLogger(__name__)


class LogWriter(Protocol):
    """Who keeps logs (``logs/groups.py``)."""

    async def append(self, group: str, stream: str, events: Sequence[tuple[int, str]]) -> None: ...


@dataclass(frozen=True, slots=True)
class Ended:
    """A completed invocation, with how long its stages took."""

    lease: Lease
    variant: str
    instance_id: str
    model_us: int
    download_us: int | None
    upload_us: int | None


class DataLog:
    """Gathers lines, and writes them.

    Args:
        logs: Where to.
        clock: Wall time.
    """

    def __init__(self, logs: LogWriter, clock: Clock) -> None:
        self._logs = logs
        self._clock = clock
        self._lines: dict[tuple[str, str], list[tuple[int, str]]] = {}
        self._count = 0

    def note(self, ended: Ended) -> None:
        """Note an invocation that was completed."""
        lease, now = ended.lease, self._clock.now()
        total_ms = int((now - lease.accepted_at).total_seconds() * 1000)
        spent_us = ended.model_us + (ended.download_us or 0) + (ended.upload_us or 0)
        text = (
            f"Inference request succeeded. ModelLatency: {ended.model_us} us, "
            f"RequestDownloadLatency: {ended.download_us or 0} us, "
            f"ResponseUploadLatency: {ended.upload_us or 0} us, "
            f"TimeInBacklog: {max(total_ms - spent_us // 1000, 0)} ms, "
            f"TotalProcessingTime: {total_ms} ms"
        )
        self._add(lease, f"{ended.variant}/{ended.instance_id}", text, now)

    def complain(self, lease: Lease, text: str) -> None:
        """Note what went wrong with an invocation."""
        self._add(lease, NO_INSTANCE, text, self._clock.now())

    async def run(self) -> None:
        """Write lines for ever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what there is."""
        lines, self._lines, self._count = self._lines, {}, 0
        for (endpoint, stream), events in lines.items():
            try:
                await self._logs.append(endpoint_group(endpoint), stream, sorted(events))
            except (Error, OSError) as error:
                _log.warning("%d lines of the data log are lost: %s", len(events), error)

    def _add(self, lease: Lease, place: str, text: str, now: datetime) -> None:
        if self._count >= MAX_LINES:
            return
        self._count += 1
        line = f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}:[sagemaker logs] "
        lines = self._lines.setdefault((lease.endpoint, f"{place}/data-log"), [])
        lines.append((int(now.timestamp() * 1000), f"{line}[{lease.inference_id}] {text}"))
