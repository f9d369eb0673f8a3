"""A connection to one of our workers: frames over a Unix socket, or TCP across machines.

Connects by itself and again after a loss, for a restarted worker listens at the same address. Keeps
the invocations that it sent, oldest first: a worker begins them in this order, and which one last
is in its status page, also when it is dead (``status_page.py``).
"""

import asyncio
import time
from collections.abc import Callable
from typing import cast

from clary.errors import InvocationError, InvocationTimeout, PlatformFault, WorkerLost
from clary.messages import (
    BODY,
    CANCEL,
    CREDIT,
    HEAD,
    HELLO,
    INVOKE,
    LATE,
    MAX_BODY_PART,
    MAX_PIECE,
    MORE,
    PART,
    PING,
    PROTOCOL_VERSION,
    REPLY,
    STREAM,
    Frame,
    FrameDecoder,
    ProtocolError,
    parse_address,
)
from clary.reading import LongReads, ReadBuffers, widen
from clary.router.invocation import Invocation, Resubmit
from clary.status_page import PageReader, Remains, memory_exceeded, status_path

RECONNECT_PAUSES_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
WRITE_HIGH_WATER = 1024 * 1024
AVERAGE_WEIGHT = 0.05
"""Share of the newest call in the moving average of handler times."""


class FrameChannel(asyncio.Protocol):
    """Frames to one worker; the ``Channel`` of ``unix:`` and ``tcp:`` addresses."""

    def __init__(
        self,
        address: str,
        *,
        on_ready: Callable[[], None],
        resubmit: Resubmit,
        buffers: ReadBuffers,
    ) -> None:
        """Prepare; ``start`` connects.

        Args:
            address: As ``messages.parse_address`` reads it.
            on_ready: Called when the channel can take invocations (again).
            resubmit: Takes invocations that a dead worker did not start.
            buffers: Memory to read long answers into.
        """
        self.outstanding = 0
        self.is_ready = False
        self.mean_handler_s = 0.0
        self.progress_at = 0.0
        self.concurrency = 1
        self.life = 0
        self._address = address
        self._on_ready = on_ready
        self._resubmit = resubmit
        self._pending: dict[int, Invocation] = {}
        self._next_id = 0
        self._loop = asyncio.get_running_loop()
        self._unwritten: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._decoder = FrameDecoder()
        self._long = LongReads(self, buffers)
        self._blocked: dict[int, Invocation] = {}
        """Whose bodies wait for room, by request id."""
        self._is_waking = False
        self._is_full = False
        self._is_closing = False
        self._page: PageReader | None = None
        """Tells what the worker had begun when it dies, and possibly why it died."""
        self._fault: PlatformFault | None = None
        """Why this side broke the connection."""
        self._connecting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect, and try until it works or the channel is closed."""
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, host, port = parse_address(self._address)
        attempt = 0
        while not self._is_closing:
            try:
                if port is None:
                    await loop.create_unix_connection(lambda: self, host)
                else:
                    await loop.create_connection(lambda: self, host, port)
                return
            except OSError:
                pause = RECONNECT_PAUSES_S[min(attempt, len(RECONNECT_PAUSES_S) - 1)]
                attempt += 1
                await asyncio.sleep(pause)

    # Channel ------------------------------------------------------------------------------

    def submit(self, invocation: Invocation) -> None:
        transport = self._transport
        if transport is None:
            self._resubmit(invocation, WorkerLost("The connection to the model was lost."))
            return
        request_id = self._next_id = (self._next_id + 1) & 0xFFFFFFFF
        now = time.monotonic()
        invocation.request_id = request_id
        invocation.sent_at = now
        self._pending[request_id] = invocation
        if self.outstanding == 0:
            self.progress_at = now
        self.outstanding += 1
        meta = invocation.meta
        body = invocation.body
        time_left_ms = max(int((invocation.deadline - now) * 1000), 1)
        length = len(body)
        flags = MORE | LATE if invocation.is_streamed else 0
        if invocation.wants_stream:
            flags |= STREAM
        if length <= MAX_BODY_PART:
            self._write_soon(
                HEAD.pack(INVOKE, flags, 0, request_id, time_left_ms, len(meta), length)
                + meta
                + body
            )
            return
        self._flush()
        flags |= MORE
        transport.write(HEAD.pack(INVOKE, flags, 0, request_id, time_left_ms, len(meta), 0) + meta)
        self._write_parts(transport, request_id, body, invocation.is_streamed)

    def _write_soon(self, frame: bytes) -> None:
        """Write at the loop's next turn, with what other requests of this turn have to send.

        One system call for many small frames, here and for the worker that reads them.
        """
        if not self._unwritten:
            self._loop.call_soon(self._flush)
        self._unwritten.append(frame)

    def _flush(self) -> None:
        unwritten = self._unwritten
        if unwritten and self._transport is not None:
            self._transport.write(unwritten[0] if len(unwritten) == 1 else b"".join(unwritten))
        self._unwritten = []

    def send_body(self, invocation: Invocation, data: bytes, more: bool) -> bool:
        if self._transport is not None and invocation.request_id in self._pending:
            self._flush()
            self._write_parts(self._transport, invocation.request_id, data, more)
            if self._is_full and more:
                self._blocked[invocation.request_id] = invocation
                return False
        return True

    def _write_parts(
        self, transport: asyncio.Transport, request_id: int, data: bytes, more: bool
    ) -> None:
        view = memoryview(data)
        position = 0
        while True:
            part = view[position : position + MAX_PIECE]
            position += MAX_PIECE
            is_last = position >= len(view)
            flags = MORE if more or not is_last else 0
            transport.writelines((HEAD.pack(BODY, flags, 0, request_id, 0, 0, len(part)), part))
            if is_last:
                return

    def cancel(self, invocation: Invocation) -> None:
        if self._pending.pop(invocation.request_id, None) is not None:
            self._blocked.pop(invocation.request_id, None)
            self.outstanding -= 1
            self._write_soon(HEAD.pack(CANCEL, 0, 0, invocation.request_id, 0, 0, 0))

    def credit(self, invocation: Invocation, count: int) -> None:
        if invocation.request_id in self._pending:
            self._write_soon(HEAD.pack(CREDIT, 0, 0, invocation.request_id, count, 0, 0))

    def expire(self, now: float) -> None:
        late = [i for i in self._pending.values() if i.deadline <= now]
        for invocation in late:
            self.cancel(invocation)
            if self.concurrency and not invocation.is_answering:
                # What does one call or batch at a time and is late may hang. Send it nothing more
                # until it gives a sign of life, if only the PONG, for what was cancelled gets no
                # reply. Its host replaces it if it gives none.
                self.is_ready = False
                self._write_soon(HEAD.pack(PING, 0, 0, 0, 0, 0, 0))
            invocation.on_failure(InvocationTimeout())

    def close(self) -> None:
        self._is_closing = True
        self.is_ready = False
        if self._connecting is not None:
            self._connecting.cancel()
        if self._transport is not None and not self._pending:
            self._transport.close()

    # asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface, but not the class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        self._decoder = FrameDecoder()
        self._long.is_on = False
        self._is_full = False
        widen(transport)

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._decoder.feed(data)
        except ProtocolError as error:
            assert self._transport is not None
            self._fault = PlatformFault(f"The model's worker broke the protocol: {error}")
            self._transport.abort()
            return
        if self._decoder.left or self._long.is_on:
            assert self._transport is not None
            self._long.follow(self._transport, is_long=self._decoder.left > 0, count=len(data))
        if not self.is_ready and not self._is_closing and frames:
            self._greet(frames[0])
        self.progress_at = time.monotonic()
        pending = self._pending
        parts: dict[int, list[bytes]] = {}
        """Parts that came together, by request: handed on together, for streams of tokens have
        many small ones."""
        for kind, flags, status, request_id, number, meta, body in frames:
            if kind == REPLY:
                if flags & MORE:
                    invocation = pending.get(request_id)
                    if invocation is not None:
                        invocation.is_answering = True
                else:
                    invocation = pending.pop(request_id, None)
                    if invocation is not None:
                        self.outstanding -= 1
                if flags & STREAM:
                    # The handler has only begun, so that there is no time to count.
                    if invocation is not None:
                        invocation.on_reply(status, meta, body, flags & MORE != 0)
                elif invocation is not None:
                    if invocation.counters is not None:
                        invocation.counters.handler_us += number
                    self.mean_handler_s += (number / 1e6 - self.mean_handler_s) * AVERAGE_WEIGHT
                    invocation.on_reply(status, meta, body, flags & MORE != 0)
            elif kind == PART and flags & MORE and status == 200:
                if request_id in parts:
                    parts[request_id].append(body)
                else:
                    parts[request_id] = [body]
            elif kind == PART:
                invocation = pending.pop(request_id, None)
                if invocation is not None:
                    self.outstanding -= 1
                    if request_id in parts:
                        invocation.on_parts(parts.pop(request_id))
                    invocation.on_part(status, body, False)
        for request_id, bodies in parts.items():
            invocation = pending.get(request_id)
            if invocation is not None:
                invocation.on_parts(bodies)
        if self._is_closing and not pending and self._transport is not None:
            self._transport.close()

    def _greet(self, frame: Frame) -> None:
        """First frame of a connection, or a sign of life from a worker that was thought to hang."""
        if frame.kind == HELLO:
            if frame.status != PROTOCOL_VERSION:
                assert self._transport is not None
                self._transport.abort()
                return
            self.concurrency = frame.number
            self.life = frame.request_id
            self._page = self._open_page(frame)
        self.is_ready = True
        self._on_ready()

    def _open_page(self, hello: Frame) -> PageReader | None:
        scheme, path, _ = parse_address(self._address)
        if scheme != "unix":
            return None  # on another machine
        try:
            return PageReader(status_path(path), hello.request_id, hello.flags)
        except OSError:
            return None  # it was killed just now, or has more connections than places

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        if self._blocked and not self._is_waking:
            self._is_waking = True
            self._wake()

    def _wake(self) -> None:
        """Let the oldest request whose body waits go on, and another one at the loop's next turn.

        All at once would have as many bodies half here as there are clients, each in the worker's
        memory. Whoever is too slow to use the room that there is leaves it to the next.
        """
        if self._is_full or not self._blocked:
            self._is_waking = False
            return
        invocation = self._blocked.pop(min(self._blocked))
        self._loop.call_soon(self._loop.call_soon, self._wake)
        invocation.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.is_ready = False
        self.life = 0
        self._unwritten = []
        pending, self._pending = self._pending, {}
        blocked, self._blocked = self._blocked, {}
        self.outstanding = 0
        remains = None
        if self._page is not None:
            remains = self._page.read()
            self._page.close()
            self._page = None
        fault, self._fault = self._fault, None
        error: InvocationError = fault or WorkerLost(_reason(remains))
        begun = self._begun(pending, remains)
        for request_id, invocation in pending.items():
            # Streamed bodies arrive, and long replies leave, out of the order of the queue: they
            # cannot be sent again themselves. And a worker that is alive, for it was this side that
            # broke the connection, may still begin any.
            if fault or invocation.is_streamed or invocation.is_answering or request_id in begun:
                invocation.on_failure(error)
            else:
                self._resubmit(invocation, error)
        for invocation in blocked.values():
            invocation.on_writable()
        if not self._is_closing:
            self.start()

    def _begun(self, pending: dict[int, Invocation], remains: Remains | None) -> set[int]:
        """Return the requests that a worker which has died had begun, or may have begun."""
        if remains is not None and self.concurrency:
            return {id for id in pending if not _is_after(id, remains.last_begun)}
        # Nobody knows: the oldest, as many as it may have had in progress.
        oldest = [id for id, i in pending.items() if not (i.is_streamed or i.is_answering)]
        return set(oldest[: self.concurrency or None])


def _reason(remains: Remains | None) -> str:
    if remains is not None and remains.memory_limit_mb:
        return memory_exceeded(remains.memory_limit_mb)
    return "The process of the model ended while it worked on the request."


def _is_after(request_id: int, other: int) -> bool:
    """Whether an id was given later than another one: they begin anew at 2 ** 32."""
    return 0 < (request_id - other) & 0xFFFFFFFF < 1 << 31
