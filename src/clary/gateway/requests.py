"""What a connection hands on: a request, and what works on it.

``http.py`` makes the requests; ``front.py`` and what is behind it takes them.
"""

from typing import Protocol

MAX_DISCARDED_BYTES = 32 * 1024 * 1024


class Request:
    """One request. Header names are lower-case; repeated headers are joined by commas."""

    __slots__ = ("body", "body_bytes", "headers", "keep_alive", "method", "target")

    def __init__(self, method: bytes, target: bytes, headers: dict[bytes, bytes]) -> None:
        self.method = method
        self.target = target
        """As sent: path and query, percent-encoded."""
        self.headers = headers
        self.body = b""
        self.body_bytes: int | None = None
        """Length that the client announced; None without a Content-Length."""
        self.keep_alive = True

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]

    @property
    def query(self) -> bytes:
        """The target's query, without the question mark."""
        return self.target.partition(b"?")[2]


class Responder(Protocol):
    """What works on a request; told when its client goes, or reads again."""

    def on_client_gone(self) -> None:
        """The connection has closed: stop the work, answer nothing."""
        ...

    def on_client_writable(self) -> None:
        """The client takes more of the response."""
        ...


class BodySink(Protocol):
    """Takes a body piece by piece."""

    def feed(self, data: bytes) -> None: ...
    def end(self) -> None: ...


class Closable(Protocol):
    """A connection that can be ended."""

    def abort(self) -> None: ...
    def close(self) -> None: ...


class Discard:
    """Takes the rest of a body whose request has been answered."""

    __slots__ = ("_connection", "_count")

    def __init__(self, connection: Closable) -> None:
        self._connection = connection
        self._count = 0

    def feed(self, data: bytes) -> None:
        self._count += len(data)
        if self._count > MAX_DISCARDED_BYTES:
            self._connection.abort()

    def end(self) -> None:
        self._connection.close()
