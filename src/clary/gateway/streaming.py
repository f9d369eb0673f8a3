"""InvokeEndpointWithResponseStream: the container's answer becomes an event stream.

Each part that the container gives leaves at once, as one ``PayloadPart``. The head of the response
waits for the first of them, so that whatever fails before is an ordinary error (container.md 5);
what fails later is an exception inside the stream, and the connection lives on.

Two limits beside that of the whole stream move ``deadline`` from part to part: how long the model
may pause, and how long a client that does not read may hold it up.
"""

import json
import time

from clary.errors import InvocationError, InvocationTimeout, PlatformFault
from clary.gateway.event_stream import encode_exception, encode_payload_parts
from clary.gateway.faults import MAX_MESSAGE
from clary.gateway.http import HttpConnection
from clary.gateway.invocations import GatewayInvocation
from clary.gateway.replies import Replies


class StreamInvocation(GatewayInvocation):
    """An invocation whose answer is an event stream."""

    __slots__ = ("_ends_at", "_head")

    def __init__(
        self,
        endpoint: str,
        meta: bytes,
        deadline: float,
        connection: HttpConnection,
        replies: Replies,
    ) -> None:
        super().__init__(endpoint, meta, deadline, connection, replies)
        self.wants_stream = True
        self._ends_at = deadline
        self._head = b""

    # From the router ----------------------------------------------------------------------

    def on_reply(self, status: int, meta: bytes, body: bytes, more: bool) -> None:
        recording = self.recording
        if recording is not None:
            recording.begin(status, meta)
        if not 200 <= status < 300:
            self._error_status = status
            self._collect_error(body, more)
            return
        head = self.replies.stream_head(meta, self.variant)
        if more:
            self._head = head
            self.on_parts([body])
            return
        self._respond(head, encode_payload_parts([body]))
        if recording is not None:
            recording.end(self, body)

    def on_part(self, status: int, body: bytes, more: bool) -> None:
        if self._error_status:
            self._collect_error(body, more)
        elif status != 200:
            self._break_off(status, body)
            if self.recording is not None:
                self.recording.drop()
        elif more:
            self.on_parts([body])
        else:
            if not self.is_started:
                self._start(self._head, None)
            self._measure(time.monotonic())
            if body:
                self.connection.send(encode_payload_parts([body]))
            self.connection.end()
            if self.recording is not None:
                self.recording.end(self, body)

    def on_parts(self, parts: list[bytes]) -> None:
        if self._error_status:
            super().on_parts(parts)
            return
        if not all(parts):
            parts = [part for part in parts if part]
            if not parts:
                return
        if not self.is_started:
            self._start(self._head, None)
        self.connection.send(encode_payload_parts(parts))
        self._take(len(parts[0]) if len(parts) == 1 else sum(map(len, parts)))
        self._put_off()
        if self.recording is not None:
            self.recording.add_output(self, b"".join(parts))

    def on_failure(self, error: InvocationError) -> None:
        if not self.is_started:
            super().on_failure(error)
            return
        if self.recording is not None:
            self.recording.drop()
        if self.counters is not None:
            self.counters.count_failure()
        if isinstance(error, InvocationTimeout):
            if self.connection.is_full and time.monotonic() < self._ends_at:
                self.connection.abort()  # who reads nothing cannot be told either
                return
            text = "The model did not finish its response within the time limit."
            self._end_with(model_stream_error("ModelInvocationTimeExceeded", text))
        elif isinstance(error, PlatformFault):
            self._end_with(internal_stream_failure(error.message))
        else:
            self._end_with(model_stream_error("StreamBroken", error.message))

    # From the connection ------------------------------------------------------------------

    def on_client_writable(self) -> None:
        super().on_client_writable()
        self._put_off()

    def on_stop(self) -> None:
        """The server stops, and has waited as long as it may."""
        self.replies.router.cancel(self)
        self.on_failure(PlatformFault("The server was stopped."))

    # The end, and when it has to come -----------------------------------------------------

    def _put_off(self) -> None:
        """Something moved: the next pause begins."""
        replies = self.replies
        pause_s = replies.client_stall_s if self.connection.is_full else replies.stream_idle_s
        deadline = time.monotonic() + pause_s
        self.deadline = deadline if deadline < self._ends_at else self._ends_at

    def _break_off(self, status: int, text: bytes) -> None:
        """The handler failed in mid-stream."""
        if not self.is_started:
            self._answer_error(status, text)
            return
        self._count_answer(500)
        self._end_with(model_stream_error("StreamBroken", text.decode("utf-8", "replace")))

    def _end_with(self, event: bytes) -> None:
        self.connection.send(event)
        self.connection.end()


def model_stream_error(code: str, message: str) -> bytes:
    """Return the exception for a model that failed in mid-stream.

    Args:
        code: ``ModelInvocationTimeExceeded`` or ``StreamBroken`` (container.md 5).
        message: What happened, for people.
    """
    answer = {"Message": message[:MAX_MESSAGE], "ErrorCode": code}
    return encode_exception("ModelStreamError", json.dumps(answer).encode(), "application/json")


def internal_stream_failure(message: str) -> bytes:
    """Return the exception for a fault of this server in mid-stream."""
    answer = {"Message": message[:MAX_MESSAGE]}
    return encode_exception(
        "InternalStreamFailure", json.dumps(answer).encode(), "application/json"
    )
