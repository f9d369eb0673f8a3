"""A user's server that does what a test says: accepts, reads requests and writes raw bytes."""

import socket
from types import TracebackType
from typing import Self

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    """Return one chunk; of nothing: the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class HttpPeer:
    """Listens on a port of its own; one connection at a time is in the test's hands."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(10)
        self.address = f"http:127.0.0.1:{self._listener.getsockname()[1]}"
        self.connection: socket.socket | None = None
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.hang_up()
        self._listener.close()

    def accept(self) -> None:
        """Take the next connection."""
        self.hang_up()
        self.connection, _ = self._listener.accept()
        self.connection.settimeout(10)
        self._buffer = b""

    def read(self) -> tuple[dict[str, str], bytes]:
        """Return headers and body of the next request, on a new connection where there is none."""
        if self.connection is None:
            self.accept()
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")[1:]
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        length = int(headers["content-length"])
        while len(self._buffer) < length:
            self._fill()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return headers, body

    def _fill(self) -> None:
        assert self.connection is not None
        data = self.connection.recv(1 << 20)
        if not data:
            raise EOFError
        self._buffer += data

    def write(self, data: bytes) -> None:
        assert self.connection is not None
        self.connection.sendall(data)

    def is_abandoned(self) -> bool:
        """Whether the router closes the connection, within ten seconds."""
        assert self.connection is not None
        try:
            return self.connection.recv(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    def hang_up(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None
