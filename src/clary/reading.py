"""Reading what is long: into memory of our own, from which it is passed on without being copied.

An event loop that hands out bytes has copied them once, out of a buffer that it reads into. For
megabytes that is a good part of their way through a process. So a connection on which something
long has begun has its protocol replaced by ``LongReads``, which reads into one of a few
``ReadBuffers``, and gets what was read as a view of it. Short messages stay as they are: for them,
bytes are cheaper.

Standard library only, Python 3.9: workers import this in the model's interpreter.
"""

import asyncio
import socket
import sys
from typing import List, Optional, cast

BUFFER_BYTES = 512 * 1024
"""What is read at once, at most. Each read and write wakes a process at the other end, which costs
more than the copying of some 100 KB; twice as much would not fit into a core's cache any more."""
MIN_VIEW = BUFFER_BYTES // 2
"""Shorter reads are copied, for a view keeps all of its buffer."""
MAX_SPARE = 16
"""Buffers that are kept for later."""
SOCKET_BYTES = 512 * 1024
"""What a Unix socket should take without its reader; the system may have a lower limit."""


class ReadBuffers:
    """Memory to read into, for all connections of an event loop.

    A buffer is used again when nothing refers to it any more: when all that was read into it is
    written, or joined. That is known from its count of references.
    """

    def __init__(self) -> None:
        self._current: Optional[bytearray] = None
        self._others: List[bytearray] = []

    def get(self) -> bytearray:
        """Return the buffer to read into."""
        current = self._current
        if current is None:
            current = self._current = self._find() or bytearray(BUFFER_BYTES)
        return current

    def take(self, count: int) -> bytes:
        """Return the first bytes of the buffer that was read into, as bytes or a view.

        They stay as they are for as long as somebody has them.
        """
        current = self._current
        assert current is not None
        view = memoryview(current)[:count]
        if count < MIN_VIEW:
            return bytes(view)
        self._current = None
        if len(self._others) < MAX_SPARE:
            self._others.append(current)
        return cast(bytes, view)

    def _find(self) -> Optional[bytearray]:
        """Return a buffer that nobody has any more, the one that was used last if possible."""
        others = self._others
        for index in range(len(others) - 1, -1, -1):
            if sys.getrefcount(others[index]) <= UNUSED:
                return others.pop(index)
        return None


def _count_unused() -> int:
    others = [bytearray(1)]
    return sys.getrefcount(others[0])


UNUSED = _count_unused()
"""References to a buffer that only the list of buffers has, as ``getrefcount`` counts them."""


class LongReads(asyncio.BufferedProtocol):
    """Takes a connection's reads while something long arrives; all else is the connection's."""

    def __init__(self, protocol: asyncio.Protocol, buffers: ReadBuffers) -> None:
        self.is_on = False
        self._protocol = protocol
        self._buffers = buffers
        self._take = protocol.data_received
        # Those of the connection need not go by way of this.
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[method-assign]
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]

    def follow(self, transport: asyncio.Transport, *, is_long: bool, count: int) -> None:
        """Begin, go on or end, after a read.

        Args:
            transport: Of the connection.
            is_long: Whether what comes next is more of something long.
            count: Bytes that were read.
        """
        if is_long != self.is_on and (is_long or count < MIN_VIEW):
            self.is_on = is_long
            use_protocol(transport, self if is_long else self._protocol)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffers.get()

    def buffer_updated(self, nbytes: int) -> None:
        self._take(self._buffers.take(nbytes))


def widen(transport: asyncio.BaseTransport) -> None:
    """Let a Unix socket take more at once than the system's default of 208 KB, where it may."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family == socket.AF_UNIX:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)


def use_protocol(transport: asyncio.Transport, protocol: asyncio.BaseProtocol) -> None:
    """Have another protocol take what a connection reads from now on."""
    if transport.is_reading():
        # uvloop looks at the protocol's kind when reading begins.
        transport.pause_reading()
        transport.set_protocol(protocol)
        transport.resume_reading()
    else:
        transport.set_protocol(protocol)
