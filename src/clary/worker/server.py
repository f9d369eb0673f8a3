"""A worker's side of the frames: takes invocations from routers, has them handled, replies.

Synchronous handlers run on the event loop itself, one call after another, oldest first. One
callback drains the queue for about a millisecond of handler work and then lets the loop look at
its sockets, so that pings, cancellations and lost connections are seen between calls; the replies
of one drain leave in one write per connection. Asynchronous handlers are tasks, any number at once.

Threads would only add their switches: the model's libraries release the lock where that helps, and
more cores are used by more workers.
"""

import asyncio
import os
import time
from collections import deque
from typing import Callable, Deque, Dict, List, Optional, Set, Tuple, cast

from clary.messages import (
    BODY,
    CANCEL,
    CREDIT,
    HEAD,
    HELLO,
    INVOKE,
    MAX_BODY_PART,
    MORE,
    PING,
    PONG,
    PROTOCOL_VERSION,
    REPLY,
    FrameDecoder,
    ProtocolError,
    encode_frame,
)
from clary.worker.handlers.base import Handler, Reply
from clary.worker.replies import LargeReply

DRAIN_NS = 1_000_000
WRITE_HIGH_WATER = 1024 * 1024
FINISH_POLL_S = 0.005

Request = Tuple["Connection", int, int, bytes, bytes]
"""Connection, request id, deadline (ns, monotonic), meta, body."""

_no_running_loop: Callable[[Optional[asyncio.AbstractEventLoop]], None] = asyncio._set_running_loop


class Server:
    """The queue of one worker and the calls of its handler."""

    def __init__(self, handler: Handler, page: memoryview, loop: asyncio.AbstractEventLoop) -> None:
        """Prepare; ``connection`` is the protocol factory for the listening socket.

        Args:
            handler: A loaded handler.
            page: As ``status_page.create_page`` made it.
            loop: The loop that will run this.
        """
        self._handler = handler
        self._page = page
        self._loop = loop
        self._queue: Deque[Request] = deque()
        self._connections: Set[Connection] = set()
        self._is_draining = False
        self.is_async = handler.is_async
        self.life = int.from_bytes(os.urandom(4), "big") or 1

    def connection(self) -> "Connection":
        """Return the protocol of one new connection."""
        return Connection(self)

    async def finish(self) -> None:
        """Wait until all that was accepted is answered and written; then close the connections."""
        # Polling, once in a worker's life, keeps the calls free of bookkeeping for its end.
        while self._queue or any(c.is_busy for c in self._connections):  # noqa: ASYNC110
            await asyncio.sleep(FINISH_POLL_S)
        for connection in list(self._connections):
            connection.close()
        while self._connections:  # noqa: ASYNC110
            await asyncio.sleep(FINISH_POLL_S)

    # Called by connections ----------------------------------------------------------------

    def add(self, connection: "Connection") -> None:
        self._connections.add(connection)

    def remove(self, connection: "Connection") -> None:
        self._connections.discard(connection)
        self._keep(lambda request: request[0] is not connection)

    def submit(self, requests: List[Request]) -> None:
        """Take requests, whole and in order; calls the handler when nothing else waits."""
        if self.is_async:
            for connection, request_id, _, meta, body in requests:
                connection.tasks[request_id] = self._loop.create_task(
                    self._run(connection, request_id, meta, body)
                )
            return
        self._queue.extend(requests)
        if not self._is_draining:
            self._is_draining = True
            self._drain()

    def forget(self, connection: "Connection", request_ids: Set[int]) -> None:
        """Drop queued requests whose answers nobody wants."""
        self._keep(lambda request: request[0] is not connection or request[1] not in request_ids)

    def _keep(self, wanted: Callable[[Request], bool]) -> None:
        if self._queue:
            kept = [request for request in self._queue if wanted(request)]
            self._queue.clear()
            self._queue.extend(kept)

    # Calls --------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Answer queued requests for a millisecond; come back at the loop's next turn for more."""
        queue = self._queue
        page = self._page
        invoke = self._handler.invoke
        now = time.monotonic_ns
        pack = HEAD.pack
        answered: Dict[Connection, List[bytes]] = {}
        began = start = now()
        # Inside a callback of a loop user code could not call asyncio.run(), which is
        # quite usual in synchronous handlers that use an asynchronous client.
        _no_running_loop(None)
        try:
            while queue:
                connection, request_id, deadline, meta, body = queue.popleft()
                if deadline <= start:
                    continue  # the router has answered for us
                page[0] = start
                status, meta, body = invoke(meta, body)
                end = now()
                took_us = (end - start) // 1000
                start = end
                length = len(body)
                if length <= MAX_BODY_PART:
                    frame = (
                        pack(REPLY, 0, status, request_id, took_us, len(meta), length) + meta + body
                    )
                    if connection in answered:
                        answered[connection].append(frame)
                    else:
                        answered[connection] = [frame]
                else:
                    connection.send_large(request_id, took_us, (status, meta, body))
                page[1] += 1
                if end - began > DRAIN_NS:
                    break
        finally:
            page[0] = 0
            _no_running_loop(self._loop)
        for connection, frames in answered.items():
            connection.write(frames[0] if len(frames) == 1 else b"".join(frames))
        if queue:
            self._loop.call_soon(self._drain)
            return
        self._is_draining = False

    async def _run(
        self, connection: "Connection", request_id: int, meta: bytes, body: bytes
    ) -> None:
        start = time.monotonic_ns()
        try:
            reply = await self._handler.invoke_async(meta, body)
        except asyncio.CancelledError:
            if request_id not in connection.tasks:
                raise
            # Nobody asked for it: the user's code cancelled itself, and the caller still waits.
            reply = (500, b"", b"The handler cancelled its own task.")
        connection.tasks.pop(request_id, None)
        self._page[1] += 1
        connection.send(request_id, (time.monotonic_ns() - start) // 1000, reply)


class Connection(asyncio.Protocol):
    """Frames of one router, or of the host."""

    def __init__(self, server: Server) -> None:
        self.tasks: Dict[int, asyncio.Task[None]] = {}
        self._server = server
        self._transport: Optional[asyncio.Transport] = None
        self._decoder = FrameDecoder()
        self._arriving: Dict[int, Tuple[int, bytes, List[bytes]]] = {}
        """Requests whose bodies are not whole yet: deadline, meta, parts."""
        self._large: Dict[int, LargeReply] = {}
        self._is_full = False

    @property
    def is_busy(self) -> bool:
        """Whether something is being answered."""
        return bool(self.tasks or self._large)

    def write(self, data: bytes) -> None:
        """Send whole frames; nothing happens when the connection is lost."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """Send what is written and close."""
        if self._transport is not None:
            self._transport.close()

    def send(self, request_id: int, took_us: int, reply: Reply) -> None:
        """Send a reply of any size."""
        status, meta, body = reply
        if len(body) > MAX_BODY_PART:
            self.send_large(request_id, took_us, reply)
        else:
            self.write(
                encode_frame(REPLY, request_id, status=status, number=took_us, meta=meta, body=body)
            )

    def send_large(self, request_id: int, took_us: int, reply: Reply) -> None:
        """Send a reply in parts, as far as the router's window allows."""
        if self._transport is None:
            return
        large = LargeReply(request_id, took_us, reply)
        self._large[request_id] = large
        self._advance(large)

    def _advance(self, large: LargeReply) -> None:
        while not self._is_full and self._transport is not None:
            frame = large.next_frame()
            if frame is None:
                break
            self._transport.writelines(frame)
        if large.is_sent:
            self._large.pop(large.request_id, None)

    # asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, for uvloop's transports are no subclasses.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        self._server.add(self)
        self.write(
            encode_frame(
                HELLO,
                self._server.life,
                status=PROTOCOL_VERSION,
                number=0 if self._server.is_async else 1,
            )
        )

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        requests: List[Request] = []
        cancelled: Set[int] = set()
        try:
            frames = self._decoder.feed(data)
        except ProtocolError:
            assert self._transport is not None
            self._transport.abort()
            return
        for kind, flags, _, request_id, number, meta, body in frames:
            if kind == INVOKE:
                deadline = now + number * 1_000_000
                if flags & MORE:
                    self._arriving[request_id] = (deadline, meta, [body])
                else:
                    requests.append((self, request_id, deadline, meta, body))
            elif kind == BODY:
                arriving = self._arriving.get(request_id)
                if arriving is None:
                    continue  # cancelled meanwhile
                arriving[2].append(body)
                if not flags & MORE:
                    del self._arriving[request_id]
                    deadline, meta, parts = arriving
                    requests.append((self, request_id, deadline, meta, b"".join(parts)))
            elif kind == PING:
                self.write(encode_frame(PONG, request_id, status=200, number=number))
            elif kind == CANCEL:
                cancelled.add(request_id)
                self._cancel(request_id)
            elif kind == CREDIT:
                large = self._large.get(request_id)
                if large is not None:
                    large.credit(number)
                    self._advance(large)
        if cancelled:
            requests = [request for request in requests if request[1] not in cancelled]
            self._server.forget(self, cancelled)
        if requests:
            self._server.submit(requests)

    def _cancel(self, request_id: int) -> None:
        self._arriving.pop(request_id, None)
        self._large.pop(request_id, None)
        task = self.tasks.pop(request_id, None)
        if task is not None:
            task.cancel()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        for large in list(self._large.values()):
            self._advance(large)

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._transport = None
        self._arriving.clear()
        self._large.clear()
        tasks, self.tasks = self.tasks, {}
        for task in tasks.values():
            task.cancel()
        self._server.remove(self)
