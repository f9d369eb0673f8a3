"""Asks the supervisor to start and stop processes, over ``supervisor.sock`` (docs/architecture.md).

One connection, one request at a time; it is made again when it breaks. All requests are idempotent,
so that one whose answer was lost is simply sent again.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clary.errors import TransientError
from clary.messages import LineDecoder, ProtocolError, encode_line

_TIMEOUT_S = 10.0
_READ_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A process that the supervisor started for us."""

    id: str
    pid: int
    is_alive: bool
    returncode: int | None


class SupervisorClient:
    """A client of the supervisor.

    Args:
        socket: Path of ``supervisor.sock``.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._lock = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._decoder = LineDecoder()

    async def spawn(
        self, id: str, argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path
    ) -> int:
        """Start a process, unless one of this id is alive; return its pid.

        Raises:
            TransientError: It could not be started, or the supervisor does not answer.
        """
        reply = await self._ask(
            op="spawn", id=id, argv=list(argv), env=dict(env), cwd=str(cwd), log=str(log)
        )
        return int(reply["pid"])

    async def list(self) -> list[Child]:
        """Return all children that were not forgotten, dead ones too.

        Raises:
            TransientError: The supervisor does not answer.
        """
        reply = await self._ask(op="list")
        return [
            Child(
                id=str(child["id"]),
                pid=int(child["pid"]),
                is_alive=bool(child["alive"]),
                returncode=child.get("returncode"),
            )
            for child in reply["children"]
        ]

    async def signal(self, id: str, number: int, *, group: bool = False) -> bool:
        """Send a signal to a child, or to all that its process group holds.

        Returns:
            Whether there was somebody to get it.

        Raises:
            TransientError: The supervisor does not answer.
        """
        reply = await self._ask(op="signal", id=id, signal=int(number), group=group)
        return bool(reply.get("delivered"))

    async def forget(self, id: str) -> None:
        """Take a dead child off the list.

        Raises:
            TransientError: The supervisor does not answer.
        """
        await self._ask(op="forget", id=id)

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _ask(self, **request: Any) -> dict[str, Any]:
        async with self._lock:
            # A connection that broke since the last request shows at the first try only.
            for is_last in (False, True):
                was_open = self._streams is not None
                try:
                    async with asyncio.timeout(_TIMEOUT_S):
                        reply = await self._exchange(request)
                    break
                except (OSError, EOFError, ProtocolError, TimeoutError) as error:
                    self.close()
                    if is_last or not was_open:
                        raise TransientError(
                            f"the supervisor does not answer: {type(error).__name__} {error}"
                        ) from error
                except asyncio.CancelledError:
                    # The answer that is still to come would be taken for the next request's.
                    self.close()
                    raise
        if not reply.get("ok"):
            raise TransientError(f"the supervisor cannot {request['op']}: {reply.get('error')}")
        return reply

    async def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(str(self._socket))
            self._decoder = LineDecoder()
        reader, writer = self._streams
        writer.write(encode_line(request))
        await writer.drain()
        while True:
            data = await reader.read(_READ_BYTES)
            if not data:
                raise EOFError("connection closed")
            for message in self._decoder.feed(data):
                return message
