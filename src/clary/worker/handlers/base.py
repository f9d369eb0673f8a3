"""What the server of a worker asks of a handler, whatever its style.

A handler takes the meta block and the body of one request, as they came in a frame, and returns
what goes back in one. It never raises for what user code does: a failure is a reply too.
"""

from typing import Callable, Iterator, List, Protocol, Sequence, Tuple, Union

from clary.worker.batcher import Batching
from clary.worker.streams import Stream

Reply = Tuple[int, bytes, Union[bytes, Stream]]
"""HTTP status of the container, meta block, body. A stream brings its status and meta itself."""


class HandlerFailed(Exception):
    """The handler cannot be loaded.

    Args:
        message: For the person who wrote it.
        is_final: Whether another attempt would end the same way, as with a syntax error.
    """

    def __init__(self, message: str, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


class Handler(Protocol):
    """A loaded handler. The server calls ``invoke_async`` where ``is_async``, else ``invoke``."""

    is_async: bool

    def invoke(self, meta: bytes, body: bytes) -> Reply:
        """Handle one request, on the thread of the event loop, to the end."""
        ...

    async def invoke_async(self, meta: bytes, body: bytes) -> Reply:
        """Handle one request among others. Cancelling it stops the user's code at an await."""
        ...


class BatchHandler(Handler, Protocol):
    """A handler that can answer several requests in one call."""

    batching: Batching
    is_batching: bool
    """Whether it still does: a handler whose batched answers differ stops."""
    is_checked: bool
    """Whether that is settled. The batch that settles it takes longer than others."""

    def invoke_batch(
        self, requests: Sequence[Tuple[bytes, bytes]], is_wanted: Callable[[int], bool]
    ) -> Iterator[List[Tuple[int, Reply]]]:
        """Handle several requests, given as meta and body, on the thread of the event loop.

        Args:
            requests: At least one.
            is_wanted: Whether the answer to a request, named by its place, is of use still.

        Yields:
            Answers with the place of their request, as they are made, in any order: all that are
            wanted, once. Between two steps the caller may do other things.
        """
        ...
