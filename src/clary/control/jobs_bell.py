"""Tells the jobs process that there is something for it to do, and so has it started.

A ring is only a hint: what there is to do is in the store, and jobs looks there. Rings that come
while one is on its way become one more. After a start of the server, jobs is needed at once when
work was left over.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from clary.store.changes import Changes

PAUSES_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Before it is tried again, when jobs does not answer."""

ANSWER_S = 10.0
REST_S = 0.01
"""Between two rings: a thousand calls a second need not ring a thousand times."""

_REQUEST = b"POST /wake HTTP/1.1\r\nhost: jobs\r\ncontent-length: 0\r\n\r\n"
_OK = b"HTTP/1.1 2"

_log = logging.getLogger(__name__)


class JobsBell:
    """Rings when something was written that jobs has to do.

    Args:
        socket_path: ``jobs.sock``.
        changes: Change feed of the store.
        kinds: Kinds of changes that are for jobs.
        has_work: Tells whether anything was left over.
    """

    def __init__(
        self,
        socket_path: Path,
        changes: Changes,
        kinds: frozenset[str],
        has_work: Callable[[], Awaitable[bool]],
    ) -> None:
        self._socket_path = str(socket_path)
        self._kinds = kinds
        self._has_work = has_work
        self._ringing = asyncio.Event()
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        changes.listen(self._hear)

    async def run(self) -> None:
        """Ring when there is cause, for ever."""
        if await self._has_work():
            self._ringing.set()
        while True:
            await self._ringing.wait()
            self._ringing.clear()
            await self._deliver()
            await asyncio.sleep(REST_S)

    def _hear(self, kind: str, name: str) -> None:
        if kind in self._kinds:
            self._ringing.set()

    async def _deliver(self) -> None:
        attempt = 0
        while True:
            try:
                async with asyncio.timeout(ANSWER_S):
                    await self._ring()
                return
            except (OSError, TimeoutError, EOFError) as error:
                self._hang_up()
                if attempt == len(PAUSES_S):
                    _log.warning("the jobs process does not answer: %s", error)
                await asyncio.sleep(PAUSES_S[min(attempt, len(PAUSES_S) - 1)])
                attempt += 1

    async def _ring(self) -> None:
        if self._stream is None:
            self._stream = await asyncio.open_unix_connection(self._socket_path)
        reader, writer = self._stream
        writer.write(_REQUEST)
        # The answer is 204, which has no body.
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(_OK):
            raise ConnectionError(f"jobs answered {head[:40]!r}")

    def _hang_up(self) -> None:
        if self._stream is not None:
            self._stream[1].close()
            self._stream = None
