"""What the server of a worker asks of a handler, whatever its style.

A handler takes the meta block and the body of one request, as they came in a frame, and returns
what goes back in one. It never raises for what user code does: a failure is a reply too.
"""

from typing import Protocol, Tuple

Reply = Tuple[int, bytes, bytes]
"""HTTP status of the container, meta block, body."""


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
