"""Invocations of clients whose data is captured: the same ones, and each takes note of what passes.

The client comes first: what goes to it is on its way before the note is taken. There is nothing of
this in a call that was not sampled.
"""

from clary.errors import InvocationError
from clary.gateway.http import HttpConnection
from clary.gateway.invocations import GatewayInvocation, InvocationBody
from clary.gateway.replies import Replies
from clary.gateway.streaming import StreamInvocation
from clary.router.capture import Captured, Recording
from clary.router.router import Router


class CapturedInvocation(Captured, GatewayInvocation):
    """InvokeEndpoint, captured."""

    __slots__ = ("recording",)

    def __init__(
        self,
        endpoint: str,
        meta: bytes,
        deadline: float,
        connection: HttpConnection,
        replies: Replies,
        recording: Recording,
    ) -> None:
        super().__init__(endpoint, meta, deadline, connection, replies)
        self.recording = recording

    def on_reply(self, status: int, meta: bytes, body: bytes, more: bool) -> None:
        self.recording.begin(status, meta)
        super().on_reply(status, meta, body, more)  # a first part goes through on_part
        if not more:
            self.recording.end(self, body)

    def on_part(self, status: int, body: bytes, more: bool) -> None:
        super().on_part(status, body, more)
        if status != 200:
            self.recording.drop()
        elif more:
            self.recording.add_output(self, body)
        else:
            self.recording.end(self, body)

    def on_failure(self, error: InvocationError) -> None:
        self.recording.drop()
        super().on_failure(error)

    def on_client_gone(self) -> None:
        self.recording.drop()
        super().on_client_gone()


class CapturedStream(Captured, StreamInvocation):
    """InvokeEndpointWithResponseStream, captured: the parts as the container gave them, joined."""

    __slots__ = ("recording",)

    def __init__(
        self,
        endpoint: str,
        meta: bytes,
        deadline: float,
        connection: HttpConnection,
        replies: Replies,
        recording: Recording,
    ) -> None:
        super().__init__(endpoint, meta, deadline, connection, replies)
        self.recording = recording

    def on_reply(self, status: int, meta: bytes, body: bytes, more: bool) -> None:
        self.recording.begin(status, meta)
        super().on_reply(status, meta, body, more)  # a first part goes through on_parts
        if not more:
            self.recording.end(self, body)

    def on_part(self, status: int, body: bytes, more: bool) -> None:
        super().on_part(status, body, more)  # one that is not the last goes through on_parts
        if status != 200:
            self.recording.drop()
        elif not more:
            self.recording.end(self, body)

    def on_parts(self, parts: list[bytes]) -> None:
        super().on_parts(parts)
        self.recording.add_output(self, b"".join(parts))

    def on_failure(self, error: InvocationError) -> None:
        self.recording.drop()
        super().on_failure(error)

    def on_client_gone(self) -> None:
        self.recording.drop()
        super().on_client_gone()


class CapturedBody(InvocationBody):
    """Passes a long body on while it arrives, and takes note of it."""

    __slots__ = ("_recording",)

    def __init__(
        self,
        router: Router,
        connection: HttpConnection,
        invocation: GatewayInvocation,
        recording: Recording,
    ) -> None:
        super().__init__(router, connection, invocation)
        self._recording = recording

    def _send(self, data: bytes, *, more: bool) -> None:
        self._recording.add_input(self._invocation, data)
        super()._send(data, more=more)
