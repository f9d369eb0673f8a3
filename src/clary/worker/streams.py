"""Replies that a handler yields part by part: a generator's values leave as they come.

A part is asked for only when there is room for it: within the window that the router grants, and
while the connection is not full. So a client that reads slowly slows its generator, and nothing is
piled up here.

The reply's head goes with the first part. A generator that fails before it has yielded anything
was no stream yet, and answers with an ordinary error.
"""

import asyncio
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Callable, List, Optional, Protocol, Tuple, Union

from clary.messages import HEAD, MAX_BODY_PART, MORE, PART, REPLY, REPLY_WINDOW, STREAM

GENERATORS = (GeneratorType, AsyncGeneratorType)


class Stream:
    """The body of a reply that has not been made yet."""

    __slots__ = ("failure", "head", "is_async", "parts")

    def __init__(
        self,
        parts: Any,
        head: Callable[[], Tuple[int, bytes]],
        failure: "Callable[[BaseException], Tuple[int, bytes, bytes]]",
    ) -> None:
        """Wrap a generator.

        Args:
            parts: Generator or asynchronous generator of str or bytes.
            head: Returns status and meta block; asked at the first part, for the generator may set
                the reply's headers until then.
            failure: Logs what the generator raised and returns the reply for it.
        """
        self.parts = parts
        self.head = head
        self.failure = failure
        self.is_async = isinstance(parts, AsyncGeneratorType)


def encode_part(part: Any) -> bytes:
    """Return the bytes of what a generator yielded.

    Raises:
        TypeError: It is neither text nor bytes.
    """
    if type(part) is bytes:
        return part
    if isinstance(part, str):
        return part.encode()
    if isinstance(part, (bytes, bytearray, memoryview)):
        return bytes(part)
    raise TypeError(f"the generator yielded {type(part).__name__}; parts are str or bytes")


class Outlet(Protocol):
    """The connection of a stream."""

    is_full: bool

    def flush_soon(self, stream: "OpenStream") -> None:
        """Write at the loop's next turn, with what other streams of this turn have to send."""
        ...

    def flush(self, *streams: "OpenStream") -> None:
        """Write what streams have to send, at once; forget those that have ended."""
        ...


class OpenStream:
    """One stream on its way. Frames that may leave are collected in ``outgoing``."""

    __slots__ = ("_room", "_stream", "_unsent", "_window", "connection", "is_begun", "is_ended",
                 "is_queued", "is_slow", "outgoing", "request_id")  # fmt: skip

    def __init__(self, connection: Outlet, request_id: int, stream: Stream) -> None:
        self.connection = connection
        self.request_id = request_id
        self.is_begun = False
        """Whether the reply's head has been sent."""
        self.is_ended = False
        self.is_queued = False
        """Whether the server will ask it for its next part."""
        self.is_slow = False
        """Whether its last part was long in coming."""
        self.outgoing: List[Union[bytes, memoryview]] = []
        self._stream = stream
        self._window = REPLY_WINDOW
        self._unsent: Optional[memoryview] = None
        self._room: Optional[asyncio.Future[None]] = None

    @property
    def is_async(self) -> bool:
        """Whether it is an asynchronous generator, driven by a task of its own."""
        return self._stream.is_async

    @property
    def has_room(self) -> bool:
        """Whether another part may be made."""
        return not (
            self.is_ended
            or self._unsent is not None
            or self._window <= 0
            or self.connection.is_full
        )

    def take_outgoing(self) -> List[Union[bytes, memoryview]]:
        """Return the frames that may leave, and forget them."""
        frames, self.outgoing = self.outgoing, []
        return frames

    def credit(self, count: int) -> None:
        """Allow ``count`` more bytes."""
        self._window += count
        self._cut()
        self.wake()

    def wake(self) -> None:
        """There may be room again."""
        if self._room is not None and not self._room.done() and self.has_room:
            self._room.set_result(None)

    # Synchronous generators ---------------------------------------------------------------

    def advance(self) -> None:
        """Make one part, or find the end. Runs user code."""
        try:
            part = next(self._stream.parts)
            self._push(part if type(part) is bytes else encode_part(part))
        except StopIteration:
            self._end()
        # BaseException: a sys.exit() in a generator must not end the worker for the others.
        except BaseException as error:  # noqa: BLE001
            self._fail(error)
            self._close()  # what it yielded may have been wrong, and it goes on

    def close(self) -> None:
        """Stop the generator where it is; its ``finally`` blocks run."""
        if not self.is_ended:
            self.is_ended = True
            self._close()

    def _close(self) -> None:
        try:
            self._stream.parts.close()
        except BaseException as error:  # noqa: BLE001 (user code)
            self._stream.failure(error)

    # Asynchronous generators --------------------------------------------------------------

    async def run(self, is_wanted: Callable[[], bool]) -> None:
        """Send all parts. Cancelling it closes the generator.

        Args:
            is_wanted: Whether somebody still waits for the answer.
        """
        parts = self._stream.parts
        try:
            async for part in parts:
                self._push(part if type(part) is bytes else encode_part(part))
                self.connection.flush_soon(self)
                while not self.has_room:
                    self._room = asyncio.get_running_loop().create_future()
                    await self._room
        except asyncio.CancelledError as error:
            if not is_wanted():
                raise
            self._fail(error)  # the user's code cancelled itself
        # Not BaseException: a cancelled stream has to stop.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            self._fail(error)
        else:
            self._end()
        finally:
            self.is_ended = True
            try:
                await parts.aclose()
            except Exception as error:  # noqa: BLE001 (user code)
                self._stream.failure(error)
        self.connection.flush(self)

    # Frames -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Send the head before there is a part."""
        try:
            self._begin()
        except Exception as error:  # noqa: BLE001 (headers that are none)
            self._fail(error)

    def _begin(self) -> None:
        status, meta = self._stream.head()
        self.is_begun = True
        self.outgoing.append(
            HEAD.pack(REPLY, MORE | STREAM, status, self.request_id, 0, len(meta), 0) + meta
        )

    def _push(self, part: bytes) -> None:
        if not self.is_begun:
            self._begin()
        length = len(part)
        if 0 < length <= self._window and length <= MAX_BODY_PART:
            self._window -= length
            self.outgoing.append(HEAD.pack(PART, MORE, 200, self.request_id, 0, 0, length) + part)
        elif length:
            self._unsent = memoryview(part)
            self._cut()

    def _cut(self) -> None:
        """Make frames of what the window allows."""
        unsent = self._unsent
        if unsent is None:
            return
        while len(unsent) and self._window > 0:
            part = unsent[: min(MAX_BODY_PART, self._window)]
            unsent = unsent[len(part) :]
            self._window -= len(part)
            self.outgoing.append(HEAD.pack(PART, MORE, 200, self.request_id, 0, 0, len(part)))
            self.outgoing.append(part)
        self._unsent = unsent if len(unsent) else None

    def _end(self) -> None:
        self.is_ended = True
        if self.is_begun:
            self.outgoing.append(HEAD.pack(PART, 0, 200, self.request_id, 0, 0, 0))
            return
        try:
            status, meta = self._stream.head()
        except Exception as error:  # noqa: BLE001 (headers that are none)
            self._fail(error)
            return
        self.outgoing.append(HEAD.pack(REPLY, 0, status, self.request_id, 0, len(meta), 0) + meta)

    def _fail(self, error: BaseException) -> None:
        self.is_ended = True
        status, meta, body = self._stream.failure(error)
        body = body[:MAX_BODY_PART]
        kind, meta = (PART, b"") if self.is_begun else (REPLY, meta)
        head = HEAD.pack(kind, 0, status, self.request_id, 0, len(meta), len(body))
        self.outgoing.append(head + meta + body)
