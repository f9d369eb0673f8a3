"""A keep-alive HTTP/1.1 client in the manner of the gateway: callbacks, streams, back-pressure.

Used for users' own servers (``http_channel``) and for what the gateway forwards to control and
objects. A library's client would cost four to forty times as much (docs/architecture.md). One
``HttpPool`` per address; each ``Exchange`` has a connection to itself while it lasts.
"""

import asyncio
import time
from collections.abc import Callable
from typing import cast

import httptools

WRITE_HIGH_WATER = 512 * 1024

NO_BODY_STATUSES = frozenset({204, 304})


class Exchange:
    """One request and its response; a subclass overrides the ``on_…`` methods.

    Ends with exactly one of ``on_end`` and ``on_error``, unless it is aborted first.
    """

    __slots__ = ("connection", "is_head", "started")

    def __init__(self) -> None:
        self.connection: HttpConnection | None = None
        self.is_head = False
        """Whether the request is a HEAD: the response then has no body, whatever it says."""
        self.started = False
        """Whether any byte of the response has come."""

    def on_connected(self) -> None:
        """Write the request, by ``self.connection.write``."""
        raise NotImplementedError

    def on_response(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Take status and headers; names are as the server sent them."""
        raise NotImplementedError

    def on_data(self, data: bytes) -> None:
        """Take a piece of the body."""
        raise NotImplementedError

    def on_end(self) -> None:
        """The response is whole."""
        raise NotImplementedError

    def on_error(self, error: Exception) -> None:
        """There is no response, or it broke off."""
        raise NotImplementedError

    def on_writable(self) -> None:
        """The connection takes more of the request's body again."""


class HttpConnection(asyncio.Protocol):
    """One connection of a pool."""

    def __init__(self, pool: "HttpPool") -> None:
        self._pool = pool
        self._exchange: Exchange | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._transport: asyncio.Transport | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._keep_alive = True
        self._ends_at_eof = False
        self.is_full = False
        self.idle_since = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def begin(self, exchange: Exchange) -> None:
        """Give the connection to an exchange and let it write."""
        self._exchange = exchange
        self._parser = httptools.HttpResponseParser(self)
        self._headers = []
        self._ends_at_eof = False
        exchange.connection = self
        exchange.on_connected()

    def write(self, data: bytes | memoryview) -> None:
        """Send bytes of the request."""
        if self._transport is not None:
            self._transport.write(data)

    def pause_reading(self) -> None:
        """Stop the response for a while: its reader is slow."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Let the response go on."""
        if self._transport is not None:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Drop the exchange without a word to it, and the connection."""
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface, but not the class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None or self._parser is None:  # bytes that nobody asked for
            self.abort()
            return
        exchange.started = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(ConnectionError("the server wants to switch protocols"))
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"the server's answer is no HTTP: {error}"))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        exchange = self._exchange
        self._exchange = None
        self._pool.lost(self)
        if exchange is None:
            return
        if self._ends_at_eof and exc is None:
            exchange.on_end()
        else:
            exchange.on_error(exc or ConnectionResetError("the server closed the connection"))

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        if self._exchange is not None:
            self._exchange.on_writable()

    def _fail(self, error: Exception) -> None:
        exchange = self._exchange
        self.abort()
        if exchange is not None:
            exchange.on_error(error)

    # httptools ----------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser, exchange = self._parser, self._exchange
        if parser is None or exchange is None:
            return
        status = parser.get_status_code()
        if status < 200:  # 100 Continue and its kin; the real answer follows
            self._headers = []
            return
        self._keep_alive = parser.should_keep_alive()
        self._ends_at_eof = not any(
            name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self._headers
        )
        exchange.on_response(status, self._headers)
        if exchange.is_head and self._exchange is exchange:
            self._finish()

    def on_body(self, data: bytes) -> None:
        if self._exchange is not None:
            self._exchange.on_data(data)

    def on_message_complete(self) -> None:
        if self._parser is not None and self._parser.get_status_code() >= 200:
            self._finish()

    def _finish(self) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        self._exchange = None
        self.resume_reading()
        if self._keep_alive and self.is_open and not self.is_full:
            self._pool.give_back(self)
        else:
            self.close()
        exchange.on_end()


class HttpPool:
    """Connections to one server."""

    def __init__(self, connect: Callable[["HttpPool"], "asyncio.Future[HttpConnection]"]) -> None:
        """Make an empty pool; use ``unix_pool`` or ``tcp_pool``."""
        self._connect = connect
        self._idle: list[HttpConnection] = []
        self._all: set[HttpConnection] = set()
        self._is_closed = False

    @property
    def has_connections(self) -> bool:
        """Whether there is any connection, idle or not."""
        return bool(self._all)

    def begin(self, exchange: Exchange) -> bool:
        """Start an exchange on an idle connection; False when there is none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                connection.begin(exchange)
                return True
        return False

    async def open(self) -> HttpConnection:
        """Return a new connection.

        Raises:
            OSError: The server does not take it.
        """
        connection = await self._connect(self)
        self._all.add(connection)
        return connection

    def give_back(self, connection: HttpConnection) -> None:
        """Keep a connection for the next exchange."""
        if self._is_closed:
            connection.close()
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)

    def lost(self, connection: HttpConnection) -> None:
        """Forget a connection that has gone."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def close_idle(self, since: float) -> None:
        """Close what has been idle since before a moment of the monotonic clock.

        Servers close idle connections too, uvicorn after 5 s. Doing it first, well before, keeps
        requests from meeting a connection in the moment it closes.
        """
        for connection in [c for c in self._idle if c.idle_since < since]:
            self._idle.remove(connection)
            connection.close()

    def close(self) -> None:
        """Close idle connections now, and the others when they are done."""
        self._is_closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()


def unix_pool(path: str) -> HttpPool:
    """Return a pool of connections to a Unix socket."""

    async def connect(pool: HttpPool) -> HttpConnection:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_unix_connection(lambda: HttpConnection(pool), path)
        return protocol

    return HttpPool(lambda pool: asyncio.ensure_future(connect(pool)))


def tcp_pool(host: str, port: int, connect_timeout_s: float) -> HttpPool:
    """Return a pool of connections to a TCP port."""

    async def connect(pool: HttpPool) -> HttpConnection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(connect_timeout_s):
            _, protocol = await loop.create_connection(lambda: HttpConnection(pool), host, port)
        return protocol

    return HttpPool(lambda pool: asyncio.ensure_future(connect(pool)))
