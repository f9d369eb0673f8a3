"""A worker's side of the frames: takes invocations from routers, has them handled, replies.

Synchronous handlers run on the event loop itself, one call after another, oldest first. One
callback drains the queue for about a millisecond of handler work and then lets the loop look at
its sockets, so that pings, cancellations and lost connections are seen between calls; the replies
of one drain leave in one write per connection. Asynchronous handlers are tasks, any number at once.

Threads would only add their switches: the model's libraries release the lock where that helps, and
more cores are used by more workers.

A reply that is a generator is asked for its parts one by one; all that are open get their turns
side by side, and with the calls.
"""

import asyncio
import contextlib
import time
from collections import deque
from typing import Callable, Deque, Dict, Iterator, List, Optional, Set

from clary.messages import HEAD, MAX_BODY_PART, REPLY
from clary.reading import ReadBuffers
from clary.status_page import FIRST_PLACE, NO_PLACE, WORDS
from clary.worker.connection import Connection, Request
from clary.worker.handlers.base import Handler
from clary.worker.streams import OpenStream, Outlet, Stream

DRAIN_NS = 1_000_000
PUMP_NS = 200_000
"""How long generators are advanced before what they yielded leaves."""
SLOW_PART_NS = 50_000
"""A generator whose last part took longer is not made to run before other parts have left."""
FINISH_POLL_S = 0.005

_no_running_loop: Callable[[Optional[asyncio.AbstractEventLoop]], None] = asyncio._set_running_loop


@contextlib.contextmanager
def without_loop(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Run user code as if not inside the loop.

    Inside a callback of a loop user code could not call asyncio.run(), which is quite usual in
    synchronous handlers that use an asynchronous client.
    """
    _no_running_loop(None)
    try:
        yield
    finally:
        _no_running_loop(loop)


class Server:
    """The queue of one worker and the calls of its handler."""

    def __init__(
        self, handler: Handler, page: memoryview, life: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Prepare; ``connection`` is the protocol factory for the listening socket.

        Args:
            handler: A loaded handler.
            page: As ``status_page.create_page`` made it.
            life: For the HELLO, and in the page.
            loop: The loop that will run this.
        """
        self._handler = handler
        self._page = page
        self._loop = loop
        self._queue: Deque[Request] = deque()
        self._connections: Set[Connection] = set()
        self._is_draining = False
        self._streams: Deque[OpenStream] = deque()
        """Generators whose next part there is room for."""
        self._is_pumping = False
        self.is_async = handler.is_async
        self.life = life
        self._free_places = list(reversed(range(FIRST_PLACE, WORDS)))
        self.concurrency = 0 if handler.is_async else 1
        """For the HELLO."""
        self.buffers = ReadBuffers()

    def connection(self) -> Connection:
        """Return the protocol of one new connection."""
        return Connection(self)

    async def finish(self) -> None:
        """Wait until all that was accepted is answered and written; then close the connections."""
        # Polling, once in a worker's life, keeps the calls free of bookkeeping for its end.
        while self._is_busy():  # noqa: ASYNC110
            await asyncio.sleep(FINISH_POLL_S)
        for connection in list(self._connections):
            connection.close()
        while self._connections:  # noqa: ASYNC110
            await asyncio.sleep(FINISH_POLL_S)

    def _is_busy(self) -> bool:
        return self._is_draining or bool(self._queue) or any(c.is_busy for c in self._connections)

    # Called by connections ----------------------------------------------------------------

    def add(self, connection: Connection) -> None:
        self._connections.add(connection)
        if self._free_places:
            connection.place = self._free_places.pop()
            self._page[connection.place] = 0

    def remove(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if connection.place != NO_PLACE:
            self._free_places.append(connection.place)
        self._keep(lambda request: request[0] is not connection)

    def submit(self, requests: List[Request]) -> None:
        """Take requests, whole and in order; calls the handler when nothing else waits."""
        if self.is_async:
            for connection, request_id, _, meta, body, _ in requests:
                connection.tasks[request_id] = self._loop.create_task(
                    self._run(connection, request_id, meta, body)
                )
            return
        self._queue.extend(requests)
        if not self._is_draining:
            self._is_draining = True
            self._drain()

    def forget(self, connection: Connection, request_ids: Set[int]) -> None:
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
        _no_running_loop(None)  # as without_loop(), which would cost half a microsecond
        try:
            while queue:
                connection, request_id, deadline, meta, body, place = queue.popleft()
                if deadline <= start:
                    continue  # the router has answered for us
                page[0] = start
                page[place] = request_id
                status, meta, result = invoke(meta, body)
                if isinstance(result, Stream):
                    self._open(connection, request_id, result)
                    page[1] += 1
                    break  # what it yielded leaves only at the loop's next turn
                end = now()
                took_us = (end - start) // 1000
                start = end
                length = len(result)
                if length <= MAX_BODY_PART:
                    frame = (
                        pack(REPLY, 0, status, request_id, took_us, len(meta), length)
                        + meta
                        + result
                    )
                    if connection in answered:
                        answered[connection].append(frame)
                    else:
                        answered[connection] = [frame]
                else:
                    connection.send_large(request_id, took_us, (status, meta, result))
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

    async def _run(self, connection: Connection, request_id: int, meta: bytes, body: bytes) -> None:
        start = time.monotonic_ns()
        try:
            reply = await self._handler.invoke_async(meta, body)
        except asyncio.CancelledError:
            if request_id not in connection.tasks:
                raise
            # Nobody asked for it: the user's code cancelled itself, and the caller still waits.
            reply = (500, b"", b"The handler cancelled its own task.")
        result = reply[2]
        if isinstance(result, Stream):
            if result.is_async:
                stream = OpenStream(connection, request_id, result)
                connection.streams[request_id] = stream
                await self._run_stream(connection, stream)
                return
            self._open(connection, request_id, result)
        else:
            connection.send(request_id, (time.monotonic_ns() - start) // 1000, reply)
        connection.tasks.pop(request_id, None)
        self._page[1] += 1

    # Streams ------------------------------------------------------------------------------

    def _open(self, connection: Connection, request_id: int, body: Stream) -> None:
        """Begin a stream, so that no request after it is started before it has shown a sign."""
        stream = OpenStream(connection, request_id, body)
        if not body.is_async:
            self._advance(stream)
        else:
            # Its first part may take any time, and the router takes the oldest request that has no
            # reply for the one that is being worked on.
            stream.begin()
            if not stream.is_ended:
                connection.tasks[request_id] = self._loop.create_task(
                    self._run_stream(connection, stream)
                )
        connection.flush(stream)
        if not stream.is_ended:
            connection.streams[request_id] = stream
            self.resume(stream)

    def resume(self, stream: OpenStream) -> None:
        """Ask a synchronous generator for parts as long as there is room."""
        if stream.is_async or stream.is_queued or not stream.has_room:
            return
        stream.is_queued = True
        self._streams.append(stream)
        if not self._is_pumping:
            self._is_pumping = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Ask the open generators for parts, in turns; let them leave; come back for more."""
        streams = self._streams
        page = self._page
        clock = time.monotonic_ns
        advanced: Dict[OpenStream, None] = {}
        """In the order of their first parts."""
        now = clock()
        end_at = now + PUMP_NS
        _no_running_loop(None)  # as without_loop(), which would cost as much as a short part
        try:
            while streams and now < end_at:
                if streams[0].is_slow and advanced:
                    break
                stream = streams.popleft()
                stream.is_queued = False
                if stream.is_ended:
                    continue  # cancelled
                page[0] = began = now
                stream.advance()
                now = clock()
                stream.is_slow = now - began > SLOW_PART_NS
                advanced[stream] = None
                if stream.has_room:
                    stream.is_queued = True
                    streams.append(stream)
        finally:
            page[0] = 0
            _no_running_loop(self._loop)
        by_connection: Dict[Outlet, List[OpenStream]] = {}
        for stream in advanced:
            by_connection.setdefault(stream.connection, []).append(stream)
        for connection, its_streams in by_connection.items():
            connection.flush(*its_streams)
        if streams:
            self._loop.call_soon(self._pump)
        else:
            self._is_pumping = False

    def _advance(self, stream: OpenStream) -> None:
        self._page[0] = start = time.monotonic_ns()
        with without_loop(self._loop):
            stream.advance()
        self._page[0] = 0
        stream.is_slow = time.monotonic_ns() - start > SLOW_PART_NS

    def close_stream(self, stream: OpenStream) -> None:
        """Stop a generator whose parts nobody wants."""
        if stream.is_async:
            return  # its task is cancelled
        self._page[0] = time.monotonic_ns()
        with without_loop(self._loop):
            stream.close()
        self._page[0] = 0

    async def _run_stream(self, connection: Connection, stream: OpenStream) -> None:
        request_id = stream.request_id
        await stream.run(lambda: request_id in connection.tasks)
        connection.tasks.pop(request_id, None)
        self._page[1] += 1
