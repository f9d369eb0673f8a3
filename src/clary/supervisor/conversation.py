"""``supervisor.sock``: one JSON object a line in, one out, in order (docs/architecture.md)."""

import contextlib
import errno
import selectors
import socket
from collections.abc import Callable
from typing import Any

from clary.messages import LineDecoder, ProtocolError, encode_line
from clary.supervisor.children import Children

REPLY_TIMEOUT_S = 1.0
MAX_LINE_BYTES = 4 * 1024 * 1024


class Requests:
    """What control asks for: instance hosts, which so survive control.

    Args:
        children: Gets the new ones.
        is_stopping: Whether the server stops, so that nothing is started any more.
    """

    def __init__(self, children: Children, is_stopping: Callable[[], bool]) -> None:
        self._children = children
        self._is_stopping = is_stopping

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what one line asks."""
        operation = request.get("op")
        children = self._children
        try:
            if operation == "spawn":
                return {"ok": True, "pid": self._spawn(request)}
            if operation == "list":
                return {"ok": True, "children": children.list_requested()}
            if operation == "signal":
                delivered = children.signal(
                    request["id"], int(request["signal"]), group=bool(request.get("group"))
                )
                return {"ok": True, "delivered": delivered}
            if operation == "forget":
                children.forget(request["id"])
                return {"ok": True}
        except (OSError, KeyError, TypeError, ValueError) as error:
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}
        return {"ok": False, "error": f"unknown operation {operation!r}"}

    def _spawn(self, request: dict[str, Any]) -> int:
        """Start a child, unless it runs already; return its pid."""
        child = self._children.get(request["id"])
        if child is None or not child.is_alive:
            if self._is_stopping():
                raise OSError(errno.ESHUTDOWN, "the server is stopping")
            child = self._children.start(
                request["id"],
                request["argv"],
                dict(request["env"]),
                cwd=request.get("cwd"),
                log=request["log"],
            )
        return child.process.pid


def serve(listener: socket.socket, requests: Requests, selector: selectors.BaseSelector) -> None:
    """Take connections for as long as the selector is asked."""

    def accept() -> None:
        with contextlib.suppress(BlockingIOError):
            connection, _ = listener.accept()
            Conversation(requests, connection, selector)

    selector.register(listener, selectors.EVENT_READ, accept)


class Conversation:
    """One connection."""

    def __init__(
        self, requests: Requests, connection: socket.socket, selector: selectors.BaseSelector
    ) -> None:
        self._requests = requests
        self._connection = connection
        self._selector = selector
        self._decoder = LineDecoder(limit=MAX_LINE_BYTES)
        # Replies are small; a peer that does not read is dropped.
        connection.settimeout(REPLY_TIMEOUT_S)
        selector.register(connection, selectors.EVENT_READ, self._read)

    def _read(self) -> None:
        try:
            data = self._connection.recv(65536)
            if not data:
                self._close()
                return
            for request in self._decoder.feed(data):
                self._connection.sendall(encode_line(self._requests.answer(request)))
        except (OSError, ProtocolError):
            self._close()

    def _close(self) -> None:
        self._selector.unregister(self._connection)
        self._connection.close()
