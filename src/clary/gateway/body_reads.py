"""The rest of a long request body, read past the parser.

A body of known length needs no parsing: it is so many bytes. ``BodyReads`` reads just these, into
memory that is passed on without being copied (``clary.reading``), and never a byte of what follows;
then the connection's own protocol and a new parser take the next request.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from clary.reading import BUFFER_BYTES, ReadBuffers, use_protocol


class Receiving(Protocol):
    """The connection, as far as this goes."""

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        ...

    def on_rest_complete(self) -> None:
        """The body is whole."""
        ...

    def eof_received(self) -> bool | None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class BodyReads(asyncio.BufferedProtocol):
    """Stands in for a connection's protocol until a body is whole."""

    def __init__(
        self,
        connection: Receiving,
        transport: asyncio.Transport,
        buffers: ReadBuffers,
        count: int,
        on_error: Callable[[Exception], None],
    ) -> None:
        """Take over the reading.

        Args:
            connection: What the body is for; its protocol gets the reading back.
            transport: Of the connection.
            buffers: Memory to read into.
            count: Bytes of the body that are still to come; more than 0.
            on_error: Told what went wrong while a piece was taken.
        """
        self._connection = connection
        self._transport = transport
        self._buffers = buffers
        self._left = count
        self._on_error = on_error
        self.eof_received = connection.eof_received  # type: ignore[method-assign]
        self.connection_lost = connection.connection_lost  # type: ignore[method-assign]
        self.pause_writing = connection.pause_writing  # type: ignore[method-assign]
        self.resume_writing = connection.resume_writing  # type: ignore[method-assign]
        use_protocol(transport, self)

    def get_buffer(self, sizehint: int) -> bytearray | memoryview:
        buffer = self._buffers.get()
        return buffer if self._left >= BUFFER_BYTES else memoryview(buffer)[: self._left]

    def buffer_updated(self, nbytes: int) -> None:
        self._left -= nbytes
        try:
            self._connection.on_body(self._buffers.take(nbytes))
            if not self._left:
                self._connection.on_rest_complete()
        except Exception as error:  # noqa: BLE001 - as in a callback of the parser
            self._on_error(error)
