"""Writes captured calls to S3: the shell around ``capture_plan``."""

import asyncio
import logging
import uuid
from contextlib import suppress

from clary.clock import Clock
from clary.errors import Error
from clary.jobs.capture_lines import Place, line_of, place_of
from clary.jobs.capture_plan import CapturePlan, Draft
from clary.objects.client import ObjectStorage
from clary.router.capture_records import unpack
from clary.settings import CaptureSettings

UPLOADS = 4
"""Objects that are written at once."""

LONG_S = 3600.0

_log = logging.getLogger(__name__)


class CaptureWriter:
    """Takes batches of captured calls and brings them to S3.

    Args:
        settings: Limits.
        storage: Where to.
        clock: For the age of what is held.
    """

    def __init__(self, settings: CaptureSettings, storage: ObjectStorage, clock: Clock) -> None:
        self._plan = CapturePlan(settings, lambda: str(uuid.uuid4()))
        self._storage = storage
        self._clock = clock
        self._changed = asyncio.Event()
        self._uploads: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(UPLOADS)
        self.lost = 0
        """Records that were taken, and could not be brought away."""

    @property
    def size(self) -> int:
        """Bytes that are held."""
        return self._plan.size

    @property
    def is_uploading(self) -> bool:
        """Whether an object is being written."""
        return bool(self._uploads)

    async def take(self, batch: bytes) -> list[int]:
        """Take a batch; return the positions of those records that found no room.

        Raises:
            ValueError: It is none.
        """
        lines = await asyncio.to_thread(_lines, batch)
        now = self._clock.monotonic()
        refused = [
            position
            for position, (place, line, began_at) in enumerate(lines)
            if not self._plan.add(place, line, began_at, now)
        ]
        if lines:
            self._changed.set()
        return refused

    async def run(self) -> None:
        """Write what is due, for ever."""
        while True:
            self._changed.clear()
            self._begin_uploads()
            next_at = self._plan.next_at()
            pause_s = LONG_S if next_at is None else max(next_at - self._clock.monotonic(), 0.01)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._changed.wait()

    async def close(self, limit_s: float) -> None:
        """Write all that is held, as far as it can be done in time; ``run`` has been stopped."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._plan.size:
                    self._plan.flush()
                    self._begin_uploads()
                    # One attempt each, and those that failed once more, until there is no time.
                    await asyncio.wait(self._uploads)
                    await asyncio.sleep(0.1 if self._plan.size else 0)
        if self._plan.size:
            _log.error("%d bytes of captured data could not be written", self._plan.size)

    def _begin_uploads(self) -> None:
        for draft in self._plan.due(self._clock.monotonic()):
            task = asyncio.get_running_loop().create_task(self._upload(draft))
            self._uploads.add(task)
            task.add_done_callback(self._uploads.discard)

    async def _upload(self, draft: Draft) -> None:
        place = draft.place
        try:
            async with self._places:
                await self._storage.upload(place.bucket, draft.key, b"".join(draft.lines))
        except (Error, OSError) as error:
            if draft.attempts == 0:
                _log.warning("captured data of endpoint %s waits: %s", place.endpoint, error)
            if not self._plan.failed(draft, self._clock.monotonic()):
                self.lost += len(draft.lines)
                _log.error(
                    "%d captured calls of endpoint %s are dropped: %s",
                    len(draft.lines),
                    place.endpoint,
                    error,
                )
            self._changed.set()
        else:
            self._plan.written(draft)


def _lines(batch: bytes) -> list[tuple[Place, bytes, float]]:
    return [(place_of(record), line_of(record), record.time) for record in unpack(batch)]
