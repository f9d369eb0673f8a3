"""One connection to a worker: frames in, requests to the ``Calls``; replies and streams out.

Long replies leave in parts, as far as the router's window allows; long requests arrive in parts.
"""

import asyncio
import time
from typing import Dict, List, Optional, Protocol, Set, Tuple, Union, cast

from clary.messages import (
    BODY,
    CANCEL,
    CREDIT,
    HELLO,
    INVOKE,
    LATE,
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
from clary.reading import LongReads, ReadBuffers, widen
from clary.status_page import NO_PLACE
from clary.worker.handlers.base import Reply
from clary.worker.replies import LargeReply
from clary.worker.streams import OpenStream, Stream

WRITE_HIGH_WATER = 1024 * 1024

Request = Tuple["Connection", int, int, bytes, bytes, int]
"""Connection, request id, deadline (ns, monotonic), meta, body, place in the status page."""


class Calls(Protocol):
    """What requests are handed to: the queue of the worker."""

    life: int
    concurrency: int
    buffers: ReadBuffers

    def add(self, connection: "Connection") -> None: ...
    def remove(self, connection: "Connection") -> None: ...

    def submit(self, requests: List[Request]) -> None:
        """Take requests, whole and in order; calls the handler when nothing else waits."""
        ...

    def forget(self, connection: "Connection", request_ids: Set[int]) -> None:
        """Drop queued requests whose answers nobody wants."""
        ...

    def resume(self, stream: OpenStream) -> None:
        """Ask a synchronous generator for parts as long as there is room."""
        ...

    def close_stream(self, stream: OpenStream) -> None:
        """Stop a generator whose parts nobody wants."""
        ...


class Connection(asyncio.Protocol):
    """Frames of one router, or of the host."""

    def __init__(self, server: Calls) -> None:
        self.tasks: Dict[int, asyncio.Task[None]] = {}
        self._waiting: Dict[int, OpenStream] = {}
        """Streams whose parts leave at the loop's next turn."""
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._transport: Optional[asyncio.Transport] = None
        self._decoder = FrameDecoder()
        self._long = LongReads(self, server.buffers)
        self._arriving: Dict[int, Tuple[int, bytes, List[bytes], int]] = {}
        """Requests whose bodies are not whole yet: deadline, meta, parts, place."""
        self.place = NO_PLACE
        """Index of the status page where it is written which request was begun last."""
        self._large: Dict[int, LargeReply] = {}
        self.streams: Dict[int, OpenStream] = {}
        self.is_full = False
        """Whether what was written has to leave before more is."""

    @property
    def is_busy(self) -> bool:
        """Whether something is being answered."""
        return bool(self.tasks or self._large or self.streams)

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
        assert not isinstance(body, Stream)
        if len(body) > MAX_BODY_PART:
            self.send_large(request_id, took_us, (status, meta, body))
        else:
            self.write(
                encode_frame(REPLY, request_id, status=status, number=took_us, meta=meta, body=body)
            )

    def flush_soon(self, stream: OpenStream) -> None:
        """Write at the loop's next turn, with what other streams of this turn have to send."""
        if not self._waiting:
            self._loop.call_soon(self._flush_waiting)
        self._waiting[stream.request_id] = stream

    def _flush_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        self.flush(*waiting.values())

    def flush(self, *streams: OpenStream) -> None:
        """Write what streams have to send, at once; forget those that have ended."""
        frames: List[Union[bytes, memoryview]] = []
        for stream in streams:
            frames += stream.take_outgoing()
            if stream.is_ended:
                self.streams.pop(stream.request_id, None)
        if frames and self._transport is not None:
            self._transport.write(b"".join(frames))

    def send_large(self, request_id: int, took_us: int, reply: Tuple[int, bytes, bytes]) -> None:
        """Send a reply in parts, as far as the router's window allows."""
        if self._transport is None:
            return
        large = LargeReply(request_id, took_us, reply)
        self._large[request_id] = large
        self._advance(large)

    def _advance(self, large: LargeReply) -> None:
        while not self.is_full and self._transport is not None:
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
        widen(transport)
        self._server.add(self)
        self.write(
            encode_frame(
                HELLO,
                self._server.life,
                flags=self.place,
                status=PROTOCOL_VERSION,
                number=self._server.concurrency,
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
                    place = NO_PLACE if flags & LATE else self.place
                    self._arriving[request_id] = (deadline, meta, [body], place)
                else:
                    requests.append((self, request_id, deadline, meta, body, self.place))
            elif kind == BODY:
                arriving = self._arriving.get(request_id)
                if arriving is None:
                    continue  # cancelled meanwhile
                arriving[2].append(body)
                if not flags & MORE:
                    del self._arriving[request_id]
                    deadline, meta, parts, place = arriving
                    requests.append((self, request_id, deadline, meta, b"".join(parts), place))
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
                elif request_id in self.streams:
                    stream = self.streams[request_id]
                    stream.credit(number)
                    self.flush(stream)
                    self._server.resume(stream)
        if self._arriving or self._long.is_on:
            assert self._transport is not None
            self._long.follow(self._transport, is_long=bool(self._arriving), count=len(data))
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
        stream = self.streams.pop(request_id, None)
        if stream is not None:
            self._server.close_stream(stream)

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        for large in list(self._large.values()):
            self._advance(large)
        for stream in list(self.streams.values()):
            stream.wake()
            self._server.resume(stream)

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._transport = None
        self._arriving.clear()
        self._large.clear()
        tasks, self.tasks = self.tasks, {}
        for task in tasks.values():
            task.cancel()
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            self._server.close_stream(stream)
        self._server.remove(self)
