"""How a host asks a worker whether it is well, without ever waiting for the answer.

Each probe is a non-blocking socket that the host's selector watches; ``on_event`` is called when
it is readable (or writable, while it connects) and says what came of it.
"""

import socket
from typing import Optional

from clary.messages import HELLO, PING, PONG, FrameDecoder, ProtocolError, encode_frame

MAX_HEAD = 64 * 1024


class FrameProbe:
    """A connection to a handler's worker, kept open: PING out, PONG in."""

    def __init__(self, path: str) -> None:
        """Connect.

        Raises:
            OSError: Nobody listens there (yet).
        """
        self.is_sync = False
        """Whether the worker does one call or batch at a time: then its status page tells all."""
        self.wants_write = False
        self._decoder = FrameDecoder()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        try:
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise

    def ask(self) -> None:
        """Send a PING.

        Raises:
            OSError: The connection is lost.
        """
        self.socket.send(encode_frame(PING))

    def on_event(self) -> Optional[bool]:
        """Return True for an answer, False when the connection is lost, None for neither."""
        try:
            data = self.socket.recv(4096)
        except BlockingIOError:
            return None
        except OSError:
            return False
        try:
            frames = self._decoder.feed(data)
        except ProtocolError:
            return False
        answer: Optional[bool] = None if data else False
        for frame in frames:
            if frame.kind == HELLO:
                self.is_sync = frame.number > 0
                answer = True
            elif frame.kind == PONG:
                answer = frame.status == 200
        return answer

    def close(self) -> None:
        self.socket.close()


class HttpProbe:
    """One ``GET /ping`` to a user's own server, on a connection of its own (container.md 2)."""

    def __init__(self, host: str, port: int) -> None:
        """Begin to connect.

        Raises:
            OSError: It cannot even begin.
        """
        self.wants_write = True
        self._reply = b""
        self._request = (
            f"GET /ping HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
        ).encode()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        try:
            self.socket.connect_ex((host, port))
        except OSError:
            self.socket.close()
            raise

    def on_event(self) -> Optional[bool]:
        """Return True for status 200, False for another or none, None while it is not there."""
        try:
            if self.wants_write:
                self.wants_write = False
                self.socket.send(self._request)
                return None
            data = self.socket.recv(4096)
        except BlockingIOError:
            return None
        except OSError:
            return False
        self._reply += data
        if b"\r\n" in self._reply:
            words = self._reply.split(None, 2)
            return len(words) >= 2 and words[0].startswith(b"HTTP/1.") and words[1] == b"200"
        return None if data and len(self._reply) < MAX_HEAD else False

    def close(self) -> None:
        self.socket.close()
