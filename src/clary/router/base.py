"""What the router needs of a connection to a worker."""

from collections.abc import Callable
from typing import Protocol

from clary.errors import InvocationError
from clary.router.invocation import Invocation


class Channel(Protocol):
    """Carries invocations to one worker. One module per protocol: frames, HTTP."""

    outstanding: int
    """Invocations sent and not yet answered."""

    is_ready: bool
    """Connected, and not suspected of hanging."""

    mean_handler_s: float
    """Moving average of the time in the handler, in seconds."""

    concurrency: int
    """Invocations that the worker works on at once; 0: no such limit."""

    def submit(self, invocation: Invocation) -> None:
        """Send an invocation. The channel tells it, and nobody else, how it went."""
        ...

    def send_body(self, invocation: Invocation, data: bytes, more: bool) -> bool:
        """Send more of a streamed body; return whether the channel takes more at once."""
        ...

    def cancel(self, invocation: Invocation) -> None:
        """Forget an invocation; its client is gone or has been answered."""
        ...

    def credit(self, invocation: Invocation, count: int) -> None:
        """Say that the client took ``count`` bytes of the reply's body."""
        ...

    def expire(self, now: float) -> None:
        """Fail what is past its deadline."""
        ...

    def close(self) -> None:
        """Close once idle. Open invocations are still answered."""
        ...


Resubmit = Callable[[Invocation, InvocationError], None]
"""Called by a channel for an invocation that its dead worker surely never started."""
