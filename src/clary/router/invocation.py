"""One invocation, as the router sees it, and the channel that carries it to a worker.

Not an HTTP request: the gateway makes invocations from HTTP, jobs will make them from queues and
files. A subclass overrides the ``on_…`` methods; each invocation ends with exactly one of
``on_reply`` without ``more``, ``on_part`` without ``more``, or ``on_failure``, unless it was
cancelled: then nothing more is called.
"""

from collections.abc import Callable
from typing import Protocol

from clary.errors import InvocationError
from clary.metrics.registry import VariantCounters
from clary.router.sessions import Session


class Carrier(Protocol):
    """Has an invocation, and is told what its client does meanwhile."""

    def send_body(self, invocation: "Invocation", data: bytes, more: bool) -> bool:
        """Send more of a streamed body; return whether it takes more at once."""
        ...

    def cancel(self, invocation: "Invocation") -> None:
        """Forget an invocation; its client is gone or has been answered."""
        ...

    def credit(self, invocation: "Invocation", count: int) -> None:
        """Say that the client took ``count`` bytes of the reply's body."""
        ...


class Channel(Carrier, Protocol):
    """Carries invocations to one worker. One module per protocol: frames, HTTP."""

    outstanding: int
    """Invocations sent and not yet answered."""

    is_ready: bool
    """Connected, and not suspected of hanging."""

    mean_handler_s: float
    """Moving average of the time in the handler, in seconds."""

    progress_at: float
    """When it last answered something, or began to have something to answer; monotonic clock."""

    life: int
    """Which process answers here: changes with each that takes the address over. 32 bits, never 0;
    0: not known at the moment, for there is no connection."""

    concurrency: int
    """Invocations that the worker works on at once; 0: no such limit."""

    def submit(self, invocation: "Invocation") -> None:
        """Send an invocation. The channel tells it, and nobody else, how it went."""
        ...

    def expire(self, now: float) -> None:
        """Fail what is past its deadline."""
        ...

    def close(self) -> None:
        """Close once idle. Open invocations are still answered."""
        ...


class Recorder(Protocol):
    """Takes note of what passes of one invocation (``capture.py``)."""

    def add_input(self, invocation: "Invocation", data: bytes) -> None:
        """Take note of a part of the request's body that is passed on while it comes."""
        ...

    def begin(self, status: int, meta: bytes) -> None:
        """Take note of the head of the answer."""
        ...

    def add_output(self, invocation: "Invocation", data: bytes) -> None:
        """Take note of a part of the answer's body, of which more follow."""
        ...

    def end(self, invocation: "Invocation", last: bytes) -> None:
        """Take note of the last part of a good answer."""
        ...

    def drop(self) -> None:
        """Forget the call: it failed, or its client has gone."""
        ...

    def for_shadow(self) -> "Recorder":
        """Return one for the copy of the same call."""
        ...


class Invocation:
    """A request to an endpoint. Plain attributes, for this is the hottest object there is."""

    __slots__ = (
        "body",
        "body_length",
        "channel",
        "container",
        "counters",
        "deadline",
        "endpoint",
        "is_answering",
        "is_mirrored",
        "is_placed",
        "is_streamed",
        "meta",
        "recording",
        "request_id",
        "sent_at",
        "session",
        "target_container",
        "target_model",
        "target_variant",
        "variant",
        "wants_stream",
    )

    def __init__(self, endpoint: str, meta: bytes, body: bytes, deadline: float) -> None:
        self.endpoint = endpoint
        self.meta = meta
        """Headers for the container, as a meta block of ``messages``."""
        self.body = body
        self.deadline = deadline
        """Latest moment for the whole answer, in seconds on the monotonic clock."""
        self.is_streamed = False
        """Whether the body is sent as it arrives, so that it could not be sent a second time."""
        self.wants_stream = False
        """Whether the client asked for a response stream, not for one answer."""
        self.is_answering = False
        """Whether the handler has answered, and only the body of its answer is on the way."""
        self.body_length = len(body)
        """Length of the whole body in bytes, also when it is streamed; -1: it is not known."""
        self.target_variant: str | None = None
        """Variant that the client chose, whatever the weights say."""
        self.session: Session | None = None
        """Session that it belongs to, which has its place; None: it may go anywhere."""
        self.is_mirrored = False
        """Whether it was decided if the shadow variant gets a copy, so that it is decided once."""
        self.is_placed = False
        """Whether its sender chose the instance (``Router.submit_to``): what that one's worker did
        not start fails as Overloaded, and goes nowhere else."""
        self.target_container: str | None = None
        """Container that the client chose, of a model in Direct mode."""
        self.target_model: str | None = None
        """Model that the client named, on a multi-model endpoint."""
        self.recording: Recorder | None = None
        """Takes note of what passes; None: its data is not captured."""
        # Set by the router once a worker is chosen:
        self.variant = ""
        """Name of the production variant."""
        self.counters: VariantCounters | None = None
        self.container = "primary"
        self.channel: Carrier | None = None
        self.request_id = 0
        self.sent_at = 0.0

    def on_reply(self, status: int, meta: bytes, body: bytes, more: bool) -> None:
        """Take the container's answer; ``more`` means that parts of its body follow."""
        raise NotImplementedError

    def on_part(self, status: int, body: bytes, more: bool) -> None:
        """Take more of the body; a status other than 200 means that the handler failed."""
        raise NotImplementedError

    def on_parts(self, parts: list[bytes]) -> None:
        """Take several good parts that came together and are not the last."""
        for part in parts:
            self.on_part(200, part, True)

    def on_failure(self, error: InvocationError) -> None:
        """Take the news that there will be no answer, or no more of it."""
        raise NotImplementedError

    def on_writable(self) -> None:
        """Go on sending a streamed body: the channel takes more again."""


Resubmit = Callable[[Invocation, InvocationError], None]
"""Called by a channel for an invocation that its dead worker surely never started."""
