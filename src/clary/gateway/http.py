"""Bytes to requests and back: HTTP/1.1 for the front door.

One ``HttpConnection`` per client connection, on httptools' parser. It knows limits, time-outs,
keep-alive, pipelining, ``Expect: 100-continue`` and back-pressure, and nothing of what requests
mean: it hands each to a ``Front`` and takes the response. Requests that arrive while another is
in work wait in order.

A body is collected before the request is handed on, unless the front asks for it piece by piece
(``Front.open_body``), which it may for bodies that are long or of unknown length.
"""

import asyncio
import logging
from collections import deque
from typing import Protocol, cast

import httptools

from clary.gateway.answering import AnsweringConnection
from clary.gateway.body_reads import BodyReads
from clary.gateway.requests import BodySink, Discard, Request
from clary.reading import ReadBuffers, use_protocol
from clary.settings import GatewaySettings

logger = logging.getLogger(__name__)

EARLY_BODY_BYTES = 64 * 1024
"""Bodies up to this length are always collected."""

MIN_REST = 128 * 1024
"""From so many bytes on, the rest of a body is read past the parser."""

WRITE_HIGH_WATER = 512 * 1024

IDLE, HEAD, BODY, BUSY = range(4)
"""Phases of a connection, for time-outs: between requests, in a head, in a body, in work."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Front(Protocol):
    """What requests are handed to."""

    def handle(self, connection: "HttpConnection", request: Request) -> None:
        """Work on a whole request, and in the end respond on the connection, exactly once."""
        ...

    def open_body(self, connection: "HttpConnection", request: Request) -> BodySink | int:
        """Decide on a long body before it comes.

        Returns:
            A sink that takes it, or the most bytes to collect of it.
        """
        ...

    def refuse(self, connection: "HttpConnection", status: int, reason: str) -> bytes:
        """Return the whole response for what is no HTTP, or over a limit."""
        ...


class HttpConnection(AnsweringConnection):
    """One client connection."""

    __slots__ = (
        "_body_count",
        "_body_limit",
        "_buffers",
        "_connections",
        "_front",
        "_head_count",
        "_headers",
        "_in_body",
        "_max_headers",
        "_parser",
        "_parts",
        "_queue",
        "_receiving",
        "_settings",
        "_sink",
        "_target",
        "phase",
        "ticks",
    )

    def __init__(
        self,
        front: Front,
        settings: GatewaySettings,
        connections: "set[HttpConnection]",
        buffers: ReadBuffers,
    ) -> None:
        super().__init__()
        self._front = front
        self._settings = settings
        self._max_headers = settings.max_headers
        self._connections = connections
        self._buffers = buffers
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_count = 0
        self._in_body = False
        self._parts: list[bytes] = []
        self._body_count = 0
        self._body_limit = 0
        self._sink: BodySink | None = None
        self._receiving: Request | None = None
        self._queue: deque[Request] = deque()
        self.phase = HEAD
        self.ticks = 0
        """Sweeps since the phase began, or since the last piece of a body."""

    @property
    def is_http_1_0(self) -> bool:
        """Whether the client knows no chunked encoding."""
        return bool(self._parser.get_http_version() == "1.0")

    def stop(self) -> None:
        """Take no further request."""
        self._close_after = True
        if self._current is None:
            self.close()

    def _finish(self) -> None:
        """One response is done; begin the next request, or wait for it."""
        request = self._current
        self._current = None
        self.responder = None
        self._is_chunked_reply = False
        if self._in_body and request is self._receiving:
            # Answered before its body was there. Read on for a while, for closing now could make
            # the client lose the answer; never take what follows for a request.
            self._close_after = True
            self._sink = Discard(self)
            self._parts = []
            self.phase = BODY
            self.ticks = 0
            self.resume_reading()
            return
        if self._close_after or (request is not None and not request.keep_alive):
            self.close()
            return
        self.phase = IDLE
        self.ticks = 0
        if self._queue:
            self._begin(self._queue.popleft())
            if not self._queue:
                self.resume_reading()

    def _begin(self, request: Request) -> None:
        self._current = request
        self.phase = BUSY
        try:
            self._front.handle(self, request)
        except Exception:  # the outermost edge: whatever happened, the client gets an answer
            logger.exception("a request was not handled")
            if self._current is request and self._transport is not None:
                self._close_after = True
                self._transport.write(
                    self._front.refuse(self, 500, "The server failed to handle the request.")
                )
                self._transport.close()

    # asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface, but not the class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self.phase == IDLE:
            self.phase = HEAD
            self.ticks = 0
        if not self._in_body:
            # Bytes of an unfinished head; the parser itself would collect them for ever.
            self._head_count += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, Refused):
                self._on_fault(error.__context__ or error)
            return
        except httptools.HttpParserError as error:
            self._refuse(400, f"The request is no valid HTTP/1.1: {error}")
            return
        if self._in_body:
            if self._transport is not None:
                self._read_rest(self._transport)
        elif self._head_count > self._settings.max_header_bytes:
            limit = self._settings.max_header_bytes
            self._refuse(431, f"The request's headers are longer than {limit} bytes.")

    def _on_fault(self, error: BaseException) -> None:
        logger.error("a request was not handled", exc_info=error)
        self._refuse(500, "The server failed to handle the request.")

    def _read_rest(self, transport: asyncio.Transport) -> None:
        """Read what is left of a long body past the parser."""
        request = self._receiving
        if (
            request is None
            or request.body_bytes is None
            or request.body_bytes - self._body_count < MIN_REST
            or b"transfer-encoding" in request.headers
            or self.is_http_1_0
        ):
            return
        count = request.body_bytes - self._body_count
        BodyReads(self, transport, self._buffers, count, self._on_fault)

    def on_rest_complete(self) -> None:
        """The rest of a body is here: go on as if the parser had seen it."""
        if self._transport is not None:
            use_protocol(self._transport, self)
        parser = self._parser
        self._parser = httptools.HttpRequestParser(self)
        self._complete(keep_alive=parser.should_keep_alive())

    def _decline_upgrade(self, rest: bytes) -> None:
        """Take an offer of HTTP/2 or WebSockets as the plain HTTP/1.1 request that it also is.

        The parser has stopped behind the head, so a new one gets the head again, less the offer.
        """
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(405, "This server is no proxy.")
            return
        head = b"".join(
            name + b": " + value + b"\r\n"
            for name, value in self._headers.items()
            if name not in (b"upgrade", b"connection", b"http2-settings")
        )
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, self._target, head, rest))

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        if self.responder is not None:
            self.responder.on_client_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._connections.discard(self)
        self._queue.clear()
        self._sink = None
        responder, self.responder = self.responder, None
        if responder is not None:
            responder.on_client_gone()

    # httptools ----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._close_after:
            raise Refused
        self._target = b""
        self._headers = {}
        self._parts = []
        self._body_count = 0

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self._headers
        name = name.lower()
        if name in headers:
            value = self._joined(name, value)
        headers[name] = value
        if len(headers) > self._max_headers:  # trailers count, too
            self._refuse(431, f"The request has more than {self._max_headers} headers.")
            raise Refused

    def _joined(self, name: bytes, value: bytes) -> bytes:
        """Return the value of a header that came again."""
        if name == b"host":
            self._refuse(400, "The request has two Host headers.")
            raise Refused
        value = self._headers[name] + b"," + value
        limit = self._settings.max_header_bytes
        if len(value) > limit:
            self._refuse(431, f"The request's headers are longer than {limit} bytes.")
            raise Refused
        return value

    def on_headers_complete(self) -> None:
        if self._parser.should_upgrade():
            return  # see _decline_upgrade
        headers = self._headers
        self._head_count = 0
        self._in_body = True
        request = Request(self._parser.get_method(), self._target, headers)
        self._receiving = request
        self._sink = None
        self._body_limit = EARLY_BODY_BYTES
        if b"content-length" in headers:
            request.body_bytes = int(headers[b"content-length"])
        elif b"transfer-encoding" not in headers:
            return
        expects = b"expect" in headers
        if (request.body_bytes or EARLY_BODY_BYTES) < EARLY_BODY_BYTES and not expects:
            return
        self._open_body(request, expects)

    def _open_body(self, request: Request, expects: bool) -> None:
        """Find out what is to become of a body that is long, or of unknown length."""
        self.phase = BODY
        self.ticks = 0
        if self._current is not None:
            # Pipelined behind a request in work: it must be collected, whatever it is.
            self._body_limit = self._settings.max_body_bytes
        else:
            self._current = request
            decision = self._front.open_body(self, request)
            if self._current is not request or self._close_after:
                return  # answered already
            if isinstance(decision, int):
                self._current = None
                self._body_limit = decision
                if request.body_bytes is not None and request.body_bytes > decision:
                    self._too_large(decision)
                    return
            else:
                self._sink = decision
        if expects and self._transport is not None:
            self._transport.write(CONTINUE)

    def on_body(self, data: bytes) -> None:
        self.ticks = 0
        self._body_count += len(data)
        if self._sink is not None:
            self._sink.feed(data)
            return
        if self._body_count > self._body_limit:
            self._too_large(self._body_limit)
            return
        self._parts.append(data)

    def on_message_complete(self) -> None:
        self._complete(keep_alive=self._parser.should_keep_alive())

    def _complete(self, *, keep_alive: bool) -> None:
        """All of a request is here."""
        self._in_body = False
        self._head_count = 0
        request = self._receiving
        self._receiving = None
        sink, self._sink = self._sink, None
        if request is None:
            return
        request.keep_alive = keep_alive
        if sink is not None:
            if self._current is request:
                self.phase = BUSY
            sink.end()
            return
        parts = self._parts
        if parts:
            first = parts[0]
            is_one = len(parts) == 1 and type(first) is bytes
            request.body = first if is_one else b"".join(parts)
            self._parts = []
        if self._current is None:
            self._begin(request)
        else:
            self._queue.append(request)
            self.pause_reading()

    def _too_large(self, limit: int) -> None:
        self._refuse(413, f"The request's body is longer than {limit} bytes.")
        # The rest of the body is read and dropped, so that the client gets to see the answer.
        self._sink = Discard(self)

    def _refuse(self, status: int, reason: str) -> None:
        """Answer what is no good, and close: what follows cannot be trusted to be a request."""
        if self._close_after and self._current is None:
            return
        self._close_after = True
        if self._current is not None and self._current is not self._receiving:
            return  # a good request is still in work: it gets its answer, then the connection ends
        if self._transport is not None:
            self._transport.write(self._front.refuse(self, status, reason))
            if not self._in_body or status != 413:
                self._transport.close()


class Refused(Exception):
    """Raised in a parser callback to stop parsing; the answer has been sent."""


def sweep(connections: "set[HttpConnection]", settings: GatewaySettings) -> None:
    """Close what has been too slow. Called once a second."""
    limits = {
        IDLE: settings.keep_alive_s,
        HEAD: settings.header_timeout_s,
        BODY: settings.body_idle_timeout_s,
    }
    for connection in list(connections):
        connection.ticks += 1
        limit = limits.get(connection.phase)
        if limit is not None and connection.ticks > limit:
            connection.abort()
