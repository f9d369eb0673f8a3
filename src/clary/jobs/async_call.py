"""One asynchronous call to a container, with a body and an answer of any length.

Short ones are kept in memory. Long ones lie in files while they travel, so that a gigabyte costs no
memory here.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from clary.errors import InvocationError, Overloaded, PermanentError
from clary.messages import MAX_BODY_PART, decode_meta
from clary.router.invocation import Invocation

SMALL_BYTES = 256 * 1024
"""Bodies up to this length are kept in memory."""

Body = bytes | Path


class Answer:
    """What a container answered."""

    __slots__ = ("body", "headers", "size", "status")

    def __init__(self, status: int, headers: dict[str, str], body: Body, size: int) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        """A file where it is long; whoever has the answer removes it."""
        self.size = size

    @property
    def is_good(self) -> bool:
        """Whether the container did what it was asked."""
        return 200 <= self.status < 300

    @property
    def content_type(self) -> str:
        """As the container said; empty: it did not."""
        return self.headers.get("content-type", "")

    def beginning(self, limit: int) -> bytes:
        """Return the body's first bytes."""
        if isinstance(self.body, bytes):
            return self.body[:limit]
        with self.body.open("rb") as file:
            return file.read(limit)


class AsyncCall(Invocation):
    """A call whose answer can be awaited.

    Args:
        endpoint: Its name.
        meta: Headers for the container.
        body: What is sent: bytes, or a file.
        deadline: Latest moment for the whole answer; monotonic clock.
        make_file: Tells where a long answer is to lie.
        max_bytes: Longest answer.
    """

    __slots__ = (
        "_file",
        "_headers",
        "_make_file",
        "_max_bytes",
        "_parts",
        "_path",
        "_size",
        "_status",
        "_writable",
        "answer",
        "source",
    )

    def __init__(
        self,
        endpoint: str,
        meta: bytes,
        body: Body,
        deadline: float,
        *,
        make_file: Callable[[], Path],
        max_bytes: int,
    ) -> None:
        super().__init__(endpoint, meta, body if isinstance(body, bytes) else b"", deadline)
        self.source = body if isinstance(body, Path) else None
        if self.source is not None:
            self.is_streamed = True
            self.body_length = self.source.stat().st_size
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._make_file = make_file
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._max_bytes = max_bytes
        self._status = 0
        self._headers: dict[str, str] = {}
        self._writable = asyncio.Event()

    async def send_source(self) -> None:
        """Send the file's content as the container takes it."""
        if self.source is None:
            return
        for piece, is_last in _pieces(self.source):
            if self.answer.done() or self.channel is None:
                return
            self._writable.clear()
            if not self.channel.send_body(self, piece, not is_last) and not is_last:
                waiting = asyncio.ensure_future(self._writable.wait())
                await asyncio.wait((waiting, self.answer), return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
            else:
                await asyncio.sleep(0)

    def discard_unless_answered(self) -> None:
        """Forget what came of an answer that is not whole."""
        if not self.answer.done() or self.answer.cancelled() or self.answer.exception():
            self.discard()

    def discard(self) -> None:
        """Forget what came of the answer."""
        self._parts.clear()
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    # From the router ----------------------------------------------------------------------

    def on_reply(self, status: int, meta: bytes, body: bytes, more: bool) -> None:
        self._status = status
        self._headers = {name.lower(): value for name, value in decode_meta(meta).items()}
        self._take(body, more)

    def on_part(self, status: int, body: bytes, more: bool) -> None:
        if status != 200:
            # A stream that broke off: what came of it is no answer, what the handler said is.
            self.discard()
            self._size = 0
            self._status = status
            self._headers = {"content-type": "text/plain"}
        self._take(body, more)

    def on_failure(self, error: InvocationError) -> None:
        if self.counters is not None and not isinstance(error, Overloaded):
            self.counters.count_failure()
        self.discard()
        self._writable.set()
        if not self.answer.done():
            self.answer.set_exception(error)

    def on_writable(self) -> None:
        self._writable.set()

    def _take(self, body: bytes, more: bool) -> None:
        if self.answer.done():
            return
        count = len(body)
        self._size += count
        if self._size > self._max_bytes:
            if self.channel is not None:
                self.channel.cancel(self)
            self.discard()
            limit = f"The container's answer has more than {self._max_bytes} bytes."
            self.answer.set_exception(PermanentError(limit))
            return
        try:
            self._keep(body)
        except OSError as error:
            if self.channel is not None:
                self.channel.cancel(self)
            self.discard()
            self.answer.set_exception(error)
            return
        if more:
            if self.channel is not None:
                self.channel.credit(self, count)
            return
        kept: Body
        if self._file is None or self._path is None:
            kept = b"".join(self._parts)
        else:
            self._file.close()
            self._file = None
            kept = self._path
        self._count()
        self.answer.set_result(Answer(self._status, self._headers, kept, self._size))

    def _count(self) -> None:
        counters = self.counters
        if counters is None:
            return
        if not 200 <= self._status < 300:
            counters.count_answer(self._status)
        if counters.is_measured:
            counters.model.samples.append(time.monotonic() - self.sent_at)

    def _keep(self, body: bytes) -> None:
        if self._file is None and self._size > SMALL_BYTES:
            self._path = self._make_file()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb")
            for part in self._parts:
                self._file.write(part)
            self._parts.clear()
        if self._file is not None:
            self._file.write(body)
        elif body:
            self._parts.append(body)


def _pieces(path: Path) -> Iterator[tuple[bytes, bool]]:
    """Yield a file's content, and with each piece whether it is the last."""
    with path.open("rb") as file:
        piece = file.read(MAX_BODY_PART)
        while True:
            following = file.read(MAX_BODY_PART)
            yield piece, not following
            if not following:
                return
            piece = following
