"""Latencies by clients in Python: one call after the other, or at a constant rate.

Both ways to a worker, through the gateway and by frames on its own socket, are measured by the same
kind of client, so that what the client costs cancels out in the difference.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop

from benchmarks.load import Request
from clary.messages import HEAD, HELLO, INVOKE, REPLY, FrameDecoder, encode_meta

WARM_UP_CALLS = 500
LAST_CHUNK = b"\r\n0\r\n\r\n"
STAMP = re.compile(rb"data: (\d+)\n")
"""The moment at which a part was made, as ``models/tokens`` writes it."""


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of all values lies."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


# One call after the other ------------------------------------------------------------------


class _Caller(asyncio.Protocol):
    """Sends a request, waits for the answer, sends the next."""

    transport: asyncio.WriteTransport

    def __init__(self, calls: int) -> None:
        self._left = calls + WARM_UP_CALLS
        self._sent_at = 0.0
        self.latencies_ms: list[float] = []
        self.done: asyncio.Future[list[float]] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))

    def call(self, request: bytes) -> None:
        self._sent_at = time.perf_counter()
        self.transport.write(request)

    def answered(self, latency_ms: float | None = None) -> bool:
        if latency_ms is None:
            latency_ms = (time.perf_counter() - self._sent_at) * 1e3
        self.latencies_ms.append(latency_ms)
        self._left -= 1
        if self._left or self.done.done():
            return True
        self.done.set_result(self.latencies_ms[WARM_UP_CALLS:])
        return False


class _HttpCaller(_Caller):
    def __init__(self, request: bytes, calls: int) -> None:
        super().__init__(calls)
        self._request = request
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.call(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if (length := response_length(self._buffer)) and len(self._buffer) >= length:
            assert self._buffer.startswith(b"HTTP/1.1 200"), self._buffer
            self._buffer = b""
            if self.answered():
                self.call(self._request)


class _FrameCaller(_Caller):
    def __init__(self, meta: bytes, body: bytes, calls: int) -> None:
        super().__init__(calls)
        self._frame = HEAD.pack(INVOKE, 0, 0, 1, 60_000, len(meta), len(body)) + meta + body
        self._decoder = FrameDecoder()

    def data_received(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            if frame.kind == HELLO or (frame.kind == REPLY and self.answered()):
                assert frame.kind == HELLO or frame.status == 200, frame
                self.call(self._frame)


def call_over_http(request: Request, calls: int) -> list[float]:
    """Return the latencies of calls on one connection, in milliseconds."""

    async def run() -> list[float]:
        port = urlsplit(request.url).port
        assert port is not None
        _, caller = await asyncio.get_running_loop().create_connection(
            lambda: _HttpCaller(http_bytes(request), calls), "127.0.0.1", port
        )
        return await caller.done

    return uvloop.run(run())


class _StreamCaller(_Caller):
    """Takes the moment in the first part that comes, and waits for the last one."""

    def __init__(self, request: bytes, calls: int) -> None:
        super().__init__(calls)
        self._request = request
        self._is_first = True
        self._first_ms = 0.0
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.call(self._request)

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        if self._is_first and (stamp := STAMP.search(data)):
            self._is_first = False
            self._first_ms = (now_ns - int(stamp[1])) / 1e6
        self._tail = (self._tail + data)[-len(LAST_CHUNK) :]
        if self._tail == LAST_CHUNK:
            assert not self._is_first, data
            self._is_first = True
            self._tail = b""
            if self.answered(self._first_ms):
                self.call(self._request)


def call_stream(request: Request, calls: int) -> list[float]:
    """Return how long after it was made the first part of each stream came, in milliseconds."""

    async def run() -> list[float]:
        port = urlsplit(request.url).port
        assert port is not None
        _, caller = await asyncio.get_running_loop().create_connection(
            lambda: _StreamCaller(http_bytes(request), calls), "127.0.0.1", port
        )
        return await caller.done

    return uvloop.run(run())


def call_worker(socket: Path, body: bytes, calls: int) -> list[float]:
    """Return the latencies of calls to a worker by frames, in milliseconds."""

    async def run() -> list[float]:
        meta = encode_meta({"content-type": "application/json", "accept": "*/*"})
        _, caller = await asyncio.get_running_loop().create_unix_connection(
            lambda: _FrameCaller(meta, body, calls), str(socket)
        )
        return await caller.done

    return uvloop.run(run())


# At a constant rate ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Steady:
    """What calls at a constant rate saw."""

    latencies_ms: tuple[float, ...]
    """From the moment at which each call was due: a stall counts for all calls that it delays."""
    since_sent_ms: tuple[float, ...]
    """From the moment at which each call was really sent: without the client's own delays."""
    errors: int


class _Slot(asyncio.Protocol):
    """A connection with at most one call in flight."""

    transport: asyncio.WriteTransport

    def __init__(self, client: "SteadyClient") -> None:
        self._client = client
        self._buffer = b""
        self._due = 0.0
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)
        self._client.free.append(self)

    def send(self, due: float) -> None:
        self._due = due
        self._sent = time.perf_counter()
        self.transport.write(self._client.request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if (length := response_length(self._buffer)) and len(self._buffer) >= length:
            is_good = self._buffer.startswith(b"HTTP/1.1 200")
            self._buffer = b""
            self._client.answered(self, self._due, self._sent, is_good)


class SteadyClient:
    """Sends requests when they are due, whether or not earlier ones have been answered."""

    def __init__(self, request: bytes, rate: float) -> None:
        self.request = request
        self.free: list[_Slot] = []
        self._pause = 1 / rate
        self._waiting: deque[float] = deque()
        self._latencies: list[float] = []
        self._since_sent: list[float] = []
        self._errors = 0
        self._is_over = False

    def answered(self, slot: _Slot, due: float, sent: float, is_good: bool) -> None:
        now = time.perf_counter()
        self._latencies.append((now - due) * 1e3)
        self._since_sent.append((now - sent) * 1e3)
        self._errors += not is_good
        if self._waiting:
            slot.send(self._waiting.popleft())
        else:
            self.free.append(slot)

    async def run(self, host: str, port: int, connections: int, until: asyncio.Event) -> Steady:
        """Send until the event is set; returns what was seen."""
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            await loop.create_connection(lambda: _Slot(self), host, port)
        due = time.perf_counter()
        while not until.is_set():
            now = time.perf_counter()
            while due <= now:
                if self.free:
                    self.free.pop().send(due)
                else:
                    self._waiting.append(due)
                due += self._pause
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        deadline = time.perf_counter() + 10
        while len(self.free) < connections and time.perf_counter() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        unanswered = connections - len(self.free) + len(self._waiting)
        return Steady(tuple(self._latencies), tuple(self._since_sent), self._errors + unanswered)


# HTTP --------------------------------------------------------------------------------------


def http_bytes(request: Request) -> bytes:
    """Return the bytes of a request."""
    parts = urlsplit(request.url)
    headers = {"host": parts.netloc, **request.headers, "content-length": str(len(request.body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {parts.path} HTTP/1.1\r\n{lines}\r\n".encode() + request.body


def response_length(data: bytes) -> int:
    """Return the length of the response that begins here; 0 while its head is not whole."""
    head, end, _ = data.partition(b"\r\n\r\n")
    if not end:
        return 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(head) + 4 + int(line.partition(b":")[2])
    return len(head) + 4
