"""Brings captured calls from a gateway to jobs, in batches, behind everybody's back.

A batch is sent until jobs has it: jobs may be starting, or be killed with the batch unanswered, and
is asked again a little later. Meanwhile the queue fills up, and then drops; invocations notice
nothing of it.
"""

import asyncio
import json
import logging
from collections.abc import Sequence
from contextlib import suppress

from clary.router.capture import CaptureQueue, Recording
from clary.router.capture_records import pack
from clary.router.http_client import Exchange, HttpPool, unix_pool

GATHER_S = 0.1
"""How long records are gathered, in seconds."""

BATCH_RECORDS = 64
"""Most records in a batch: packing them takes well under a millisecond of the gateway's time."""

BATCH_BYTES = 1024 * 1024
PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
ANSWER_S = 30.0

_log = logging.getLogger(__name__)


class CaptureSender:
    """Empties a queue of captured calls.

    Args:
        queue: What is to be sent.
        socket_path: ``jobs.sock``.
    """

    def __init__(self, queue: CaptureQueue, socket_path: str) -> None:
        self._queue = queue
        self._pool: HttpPool = unix_pool(socket_path)
        self._sending: list[Recording] = []

    def expect(self) -> None:
        """Captures will come: jobs is started now, so that it runs when they do."""
        self._queue.arrived.set()

    async def run(self) -> None:
        """Send for ever."""
        await self._queue.arrived.wait()
        await self._deliver(pack([]))  # a first connection starts jobs
        while True:
            await self._queue.arrived.wait()
            await asyncio.sleep(GATHER_S)
            await self._send_all()

    async def drain(self, limit_s: float) -> None:
        """Send what is left, as far as jobs takes it; ``run`` has been stopped before."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._send_all()
        self._pool.close()

    async def _send_all(self) -> None:
        while True:
            if not self._sending:
                self._sending = self._queue.take(BATCH_RECORDS, BATCH_BYTES)
            if not self._sending:
                return
            batch = pack(each.record() for each in self._sending)
            refused = set(await self._deliver(batch))
            for index, recording in enumerate(self._sending):
                counters = recording.counters
                if counters is None:
                    continue
                if index in refused:
                    counters.capture_dropped += 1
                else:
                    counters.captured += 1
            self._queue.done(self._sending)
            self._sending = []

    async def _deliver(self, batch: bytes) -> Sequence[int]:
        """Send a batch until jobs has it; return which of its records it had no room for."""
        attempt = 0
        while True:
            try:
                return await self._post(batch)
            except (OSError, TimeoutError, ValueError) as error:
                if attempt == len(PAUSES_S):
                    _log.warning("captured calls wait for jobs: %s", error)
                await asyncio.sleep(PAUSES_S[min(attempt, len(PAUSES_S) - 1)])
                attempt += 1

    async def _post(self, batch: bytes) -> Sequence[int]:
        async with asyncio.timeout(ANSWER_S):
            post = _Post(batch)
            if not self._pool.begin(post):
                (await self._pool.open()).begin(post)
            try:
                status, body = await post.answer
            except asyncio.CancelledError:
                if post.connection is not None:
                    post.connection.abort()
                raise
        if 400 <= status < 500:  # it would be no better a second time
            _log.error("jobs does not understand captured calls: %r", body[:200])
            return range(len(self._sending))
        if status != 200:
            raise ConnectionError(f"jobs answered {status}: {body[:200]!r}")
        refused: list[int] = json.loads(body)["refused"]
        return refused


class _Post(Exchange):
    """One batch on its way."""

    __slots__ = ("_batch", "_parts", "_status", "answer")

    def __init__(self, batch: bytes) -> None:
        super().__init__()
        self._batch = batch
        self._status = 0
        self._parts: list[bytes] = []
        self.answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()

    def on_connected(self) -> None:
        assert self.connection is not None
        self.connection.write(
            b"POST /captures HTTP/1.1\r\nhost: jobs\r\ncontent-length: %d\r\n\r\n%b"
            % (len(self._batch), self._batch)
        )

    def on_response(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._status = status

    def on_data(self, data: bytes) -> None:
        self._parts.append(data)

    def on_end(self) -> None:
        if not self.answer.done():
            self.answer.set_result((self._status, b"".join(self._parts)))

    def on_error(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(ConnectionError(str(error)))
