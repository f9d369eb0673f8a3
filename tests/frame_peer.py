"""A worker that does what a test says, frame by frame, as a real one does only when it fails."""

import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from clary.messages import HELLO, PART, PROTOCOL_VERSION, REPLY, Frame, FrameDecoder, encode_frame
from clary.router.sessions import Place, instance_tag, session_header

LIFE = 7


def a_session(container_id: str, instance_id: str = "i-0") -> str:
    """Return what a client has for a session of a peer; ``i-0`` is a gateway's first instance."""
    return session_header(container_id, Place(instance_tag(instance_id), LIFE))


class FramePeer:
    """Listens like a worker; the test accepts, reads and answers by hand."""

    def __init__(self, path: Path, *, concurrency: int = 0) -> None:
        self.address = f"unix:{path}"
        self._concurrency = concurrency
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(10)
        self._connection: socket.socket | None = None
        self._decoder = FrameDecoder()
        self._frames: list[Frame] = []

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
        """Take the router's connection and greet it."""
        self._connection, _ = self._listener.accept()
        self._connection.settimeout(10)
        self._decoder = FrameDecoder()
        self._frames = []
        self.send(encode_frame(HELLO, LIFE, status=PROTOCOL_VERSION, number=self._concurrency))

    def send(self, data: bytes) -> None:
        """Send bytes, frames or not."""
        assert self._connection is not None
        self._connection.sendall(data)

    def reply(
        self, request: Frame, body: bytes = b"", *, flags: int = 0, status: int = 200
    ) -> None:
        self.send(encode_frame(REPLY, request.request_id, flags=flags, status=status, body=body))

    def part(self, request: Frame, body: bytes = b"", *, flags: int = 0, status: int = 200) -> None:
        self.send(encode_frame(PART, request.request_id, flags=flags, status=status, body=body))

    def read(self) -> Frame:
        """Return the next frame of the router; fails when none comes for ten seconds."""
        assert self._connection is not None
        while not self._frames:
            data = self._connection.recv(1 << 20)
            if not data:
                raise EOFError
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0)

    def has_frame(self, within_s: float) -> bool:
        """Whether the router says anything in that time."""
        assert self._connection is not None
        self._connection.settimeout(within_s)
        try:
            self._frames.insert(0, self.read())
        except TimeoutError:
            return False
        finally:
            self._connection.settimeout(10)
        return True

    def hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
