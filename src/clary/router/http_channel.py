"""A user's own server as a worker: ``POST /invocations`` over keep-alive HTTP/1.1.

The plain container contract (container.md 3). The host has seen ``/ping`` answer before the
address was published, and goes on asking; here only invocations travel.
"""

import asyncio
import time
from collections.abc import Callable

from clary.errors import InvocationError, InvocationTimeout, WorkerLost
from clary.messages import (
    REPLY_WINDOW,
    TRACED,
    MetaCache,
    decode_meta,
    encode_meta,
    parse_address,
)
from clary.router.http_client import Exchange, tcp_pool
from clary.router.invocation import Invocation, Resubmit

CONNECT_TIMEOUT_S = 0.25
"""Time to accept a connection (container.md 3)."""

REST_S = 0.1
IDLE_S = 2.0
WHOLE_REPLY = 256 * 1024
"""Replies up to this many bytes are handed on whole; longer ones, and those of unknown length,
as they come."""

REPLY_HEADERS = frozenset(
    {
        b"content-type",
        b"x-amzn-sagemaker-custom-attributes",
        b"x-amzn-sagemaker-session-id",
        b"x-amzn-sagemaker-new-session-id",
        b"x-amzn-sagemaker-closed-session-id",
    }
)


class HttpChannel:
    """HTTP to one server; the ``Channel`` of ``http:`` addresses."""

    def __init__(self, address: str, *, on_ready: Callable[[], None], resubmit: Resubmit) -> None:
        """Prepare; connections are opened as they are needed.

        Args:
            address: ``http:host:port``.
            on_ready: Called when connections may be tried again after one was refused.
            resubmit: Takes invocations for which no connection could be opened.
        """
        _, host, port = parse_address(address)
        assert port is not None
        self.outstanding = 0
        self.is_ready = True
        self.mean_handler_s = 0.0
        self.progress_at = 0.0
        self.concurrency = 0
        # A server says nothing of its life, but one that is started anew listens on a new port.
        self.life = port
        self._on_ready = on_ready
        self._resubmit = resubmit
        self.pool = tcp_pool(host, port, CONNECT_TIMEOUT_S)
        self._head = f" HTTP/1.1\r\nhost: {host}:{port}\r\n".encode()
        self._heads: dict[bytes, bytes] = {}
        self._exchanges: dict[int, InvocationExchange] = {}
        self._next_id = 0
        self._is_closed = False
        self._opening: set[asyncio.Task[None]] = set()
        self.metas = MetaCache()

    def start(self) -> None:
        """Nothing to do before the first invocation."""

    def submit(self, invocation: Invocation) -> None:
        self._next_id += 1
        invocation.request_id = self._next_id
        invocation.sent_at = time.monotonic()
        exchange = InvocationExchange(self, invocation)
        self._exchanges[invocation.request_id] = exchange
        self.outstanding += 1
        if not self.pool.begin(exchange):
            task = asyncio.get_running_loop().create_task(self._open(exchange))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, exchange: "InvocationExchange") -> None:
        try:
            connection = await self.pool.open()
        except (OSError, TimeoutError):
            self._rest()
            if self.finish(exchange):
                error = WorkerLost("The model's server does not accept connections.")
                if exchange.invocation.is_streamed:
                    exchange.invocation.on_failure(error)
                else:
                    self._resubmit(exchange.invocation, error)
            return
        if exchange.invocation.request_id in self._exchanges:
            connection.begin(exchange)
            exchange.invocation.on_writable()
        else:
            self.pool.give_back(connection)

    def _rest(self) -> None:
        """Try no connection for a moment: the server is being replaced, or overrun."""
        if self.is_ready:
            self.is_ready = False
            asyncio.get_running_loop().call_later(REST_S, self._revive)

    def _revive(self) -> None:
        if not self._is_closed:
            self.is_ready = True
            self._on_ready()

    def send_body(self, invocation: Invocation, data: bytes, more: bool) -> bool:
        exchange = self._exchanges.get(invocation.request_id)
        if exchange is None:
            return True
        return exchange.send(_chunk(data, more=more) if invocation.body_length < 0 else data)

    def cancel(self, invocation: Invocation) -> None:
        exchange = self._exchanges.get(invocation.request_id)
        if exchange is not None and self.finish(exchange) and exchange.connection is not None:
            exchange.connection.abort()

    def credit(self, invocation: Invocation, count: int) -> None:
        exchange = self._exchanges.get(invocation.request_id)
        if exchange is not None:
            exchange.credit(count)

    def expire(self, now: float) -> None:
        late = [e for e in self._exchanges.values() if e.invocation.deadline <= now]
        for exchange in late:
            self.cancel(exchange.invocation)
            exchange.invocation.on_failure(InvocationTimeout())
        self.pool.close_idle(now - IDLE_S)

    def close(self) -> None:
        self._is_closed = True
        self.is_ready = False
        self.pool.close()

    # For exchanges ------------------------------------------------------------------------

    def request_head(self, meta: bytes) -> bytes:
        """Return request line and headers for a meta block, but for the length."""
        head = self._heads.get(meta)
        if head is None:
            headers = decode_meta(meta)
            path = headers.pop(":path", "/invocations")
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            head = b"POST " + path.encode() + self._head + lines.encode("latin-1")
            if TRACED in meta:
                return head
            if len(self._heads) >= 256:
                self._heads.clear()
            self._heads[meta] = head
        return head

    def open_with(self, path: str) -> int:
        """Return how many open invocations go to a path."""
        end = f'":path":"{path}"'.encode()
        return sum(end in e.invocation.meta for e in self._exchanges.values())

    def finish(self, exchange: "InvocationExchange") -> bool:
        """Take an exchange off the books; False when it was off already."""
        if self._exchanges.pop(exchange.invocation.request_id, None) is None:
            return False
        self.outstanding -= 1
        return True


class InvocationExchange(Exchange):
    """One invocation on one connection."""

    __slots__ = (
        "_channel",
        "_early",
        "_is_passed_on",
        "_meta",
        "_parts",
        "_status",
        "_unread",
        "invocation",
    )

    def __init__(self, channel: HttpChannel, invocation: Invocation) -> None:
        super().__init__()
        self.invocation = invocation
        self._channel = channel
        self._early: list[bytes] = []
        self._is_passed_on = False
        self._meta = b""
        self._parts: list[bytes] = []
        self._status = 0
        self._unread = 0

    def on_connected(self) -> None:
        assert self.connection is not None
        invocation = self.invocation
        head = self._channel.request_head(invocation.meta)
        body = invocation.body
        if invocation.is_streamed:
            length = invocation.body_length
            if length < 0:
                self.connection.write(head + b"transfer-encoding: chunked\r\n\r\n")
                self.connection.write(_chunk(body, more=True))
            else:
                self.connection.write(head + b"content-length: %d\r\n\r\n" % length + body)
            for data in self._early:
                self.connection.write(data)
            self._early.clear()
        elif len(body) < 65536:
            self.connection.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        else:
            self.connection.write(head + b"content-length: %d\r\n\r\n" % len(body))
            self.connection.write(body)

    def send(self, data: bytes) -> bool:
        """Send more of a streamed body; return whether the connection takes more at once."""
        if self.connection is None:
            self._early.append(data)
            return False
        self.connection.write(data)
        return not self.connection.is_full

    def credit(self, count: int) -> None:
        """The client took bytes of the reply."""
        self._unread -= count
        if self._unread < REPLY_WINDOW and self.connection is not None:
            self.connection.resume_reading()

    def on_writable(self) -> None:
        self.invocation.on_writable()

    def on_response(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        if self.invocation.counters is not None:
            elapsed_us = int((time.monotonic() - self.invocation.sent_at) * 1e6)
            self.invocation.counters.handler_us += elapsed_us
        wanted: dict[str, str] = {}
        length: int | None = None
        for name, value in headers:
            lower = name.lower()
            if lower in REPLY_HEADERS:
                wanted[lower.decode("latin-1")] = value.decode("latin-1")
            elif lower == b"content-length":
                length = int(value)
        self._status = status
        if length is not None and length <= WHOLE_REPLY:
            self._meta = self._channel.metas.encode(tuple(wanted.items()))
            return
        if length is not None:
            wanted["content-length"] = str(length)
        self._is_passed_on = True
        self.invocation.on_reply(status, encode_meta(wanted), b"", True)

    def on_data(self, data: bytes) -> None:
        if not self._is_passed_on:
            self._parts.append(data)
            return
        self._unread += len(data)
        if self._unread >= REPLY_WINDOW and self.connection is not None:
            self.connection.pause_reading()
        self.invocation.on_part(200, data, True)

    def on_end(self) -> None:
        if self._channel.finish(self):
            if self._is_passed_on:
                self.invocation.on_part(200, b"", False)
            else:
                self.invocation.on_reply(self._status, self._meta, b"".join(self._parts), False)

    def on_error(self, error: Exception) -> None:
        if self._channel.finish(self):
            text = f"The model's server broke the connection: {error}"
            failure: InvocationError = WorkerLost(text)
            self.invocation.on_failure(failure)


def _chunk(data: bytes, *, more: bool) -> bytes:
    """Return a piece of a body whose length is not known, in chunked encoding."""
    chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
    return chunk if more else chunk + b"0\r\n\r\n"
