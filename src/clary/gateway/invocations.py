"""One invocation of a client: the router's answer goes to its HTTP connection."""

import time

from clary.errors import InvocationError
from clary.gateway.http import HttpConnection
from clary.gateway.replies import Replies
from clary.messages import REPLY_WINDOW
from clary.router.invocation import Invocation
from clary.router.router import Router

MAX_ERROR_BODY = 64 * 1024
CREDIT_STEP = REPLY_WINDOW // 4
"""The worker hears of what the client took in steps of so many bytes, not of every token."""


class GatewayInvocation(Invocation):
    """InvokeEndpoint: the container's answer becomes the response, whole or in parts."""

    __slots__ = (
        "_error_parts",
        "_error_status",
        "_owed",
        "began_at",
        "connection",
        "is_started",
        "replies",
    )

    def __init__(
        self,
        endpoint: str,
        meta: bytes,
        deadline: float,
        connection: HttpConnection,
        replies: Replies,
    ) -> None:
        super().__init__(endpoint, meta, b"", deadline)
        self.connection = connection
        self.replies = replies
        self.began_at = 0.0
        """When the request was here, in seconds on the monotonic clock."""
        self.is_started = False
        """Whether the head of the response has been sent."""
        self._error_status = 0
        self._error_parts: list[bytes] = []
        self._owed = 0

    # From the router ----------------------------------------------------------------------

    def on_reply(self, status: int, meta: bytes, body: bytes, more: bool) -> None:
        recording = self.recording
        if recording is not None:
            recording.begin(status, meta)
        if not 200 <= status < 300:
            self._error_status = status
            self._collect_error(body, more)
            return
        replies = self.replies
        head = replies.head(meta, self)
        if more:
            self._start(head, replies.length(meta))
            self.on_part(200, body, True)
            return
        self._respond(head, body)
        if recording is not None:  # what goes to the client is on its way
            recording.end(self, body)

    def on_part(self, status: int, body: bytes, more: bool) -> None:
        if self._error_status:
            self._collect_error(body, more)
            return
        recording = self.recording
        if status != 200:
            self._count_answer(500)
            self.connection.break_off()
            if recording is not None:
                recording.drop()
            return
        self.connection.send(body)
        if more:
            self._take(len(body))
            if recording is not None:
                recording.add_output(self, body)
        else:
            self._measure(time.monotonic())
            self.connection.end()
            if recording is not None:
                recording.end(self, body)

    def on_failure(self, error: InvocationError) -> None:
        if self.recording is not None:
            self.recording.drop()
        if self.counters is not None:
            self.counters.count_failure()
        if self.is_started:
            self.connection.break_off()
            return
        self.connection.respond(
            self.replies.errors.from_failure(
                self.endpoint,
                self.container,
                error,
                self.replies.clockwork.next_request_id(),
                close=self.connection.will_close,
            )
        )

    def on_writable(self) -> None:
        self.connection.resume_reading()

    # From the connection ------------------------------------------------------------------

    def on_client_gone(self) -> None:
        if self.recording is not None:
            self.recording.drop()
        self.replies.router.cancel(self)

    def on_client_writable(self) -> None:
        self._credit()

    # Writing the response -----------------------------------------------------------------

    def _respond(self, head: bytes, body: bytes) -> None:
        """Send a whole response."""
        self._measure(time.monotonic())
        connection = self.connection
        clockwork = self.replies.clockwork
        head += clockwork.date_line
        if connection.will_close:
            head += b"connection: close\r\n"
        connection.respond(
            b"%bx-amzn-requestid: %b\r\ncontent-length: %d\r\n\r\n%b"
            % (head, clockwork.next_request_id(), len(body), body)
        )

    def _start(self, head: bytes, length: int | None) -> None:
        """Send the head of a response that comes in parts.

        Args:
            head: As ``Replies`` makes it.
            length: Bytes of the whole body, where they are known.
        """
        connection = self.connection
        clockwork = self.replies.clockwork
        head += clockwork.date_line
        if length is not None:
            head += b"content-length: %d\r\n" % length
        elif connection.is_http_1_0:
            connection.close_after_response()
        else:
            head += b"transfer-encoding: chunked\r\n"
        if connection.will_close:
            head += b"connection: close\r\n"
        self.is_started = True
        connection.start(
            head + b"x-amzn-requestid: " + clockwork.next_request_id() + b"\r\n\r\n",
            chunked=length is None and not connection.is_http_1_0,
        )

    def _take(self, count: int) -> None:
        """Let the worker send on for bytes that went to the client, unless it is slow."""
        self._owed += count
        if self._owed >= CREDIT_STEP and not self.connection.is_full:
            self._credit()

    def _credit(self) -> None:
        owed, self._owed = self._owed, 0
        if owed and self.channel is not None:
            self.channel.credit(self, owed)

    def _collect_error(self, body: bytes, more: bool) -> None:
        if sum(map(len, self._error_parts)) < MAX_ERROR_BODY:
            self._error_parts.append(body)
        if more:
            if self.channel is not None:
                self.channel.credit(self, len(body))
            return
        self._answer_error(self._error_status, b"".join(self._error_parts))

    def _answer_error(self, status: int, body: bytes) -> None:
        """Answer that the container said no."""
        self._count_answer(status)
        self.connection.respond(
            self.replies.errors.from_container(
                self.endpoint,
                self.container,
                status,
                body,
                self.replies.clockwork.next_request_id(),
                close=self.connection.will_close,
            )
        )

    def _count_answer(self, status: int) -> None:
        """Count an answer that is an error."""
        if self.counters is not None:
            self.counters.count_answer(status)
            self._measure(time.monotonic())

    def _measure(self, received_at: float) -> None:
        """Take the times of an answer.

        Args:
            received_at: When all of it was here, on the monotonic clock.
        """
        counters = self.counters
        if counters is not None and counters.is_measured:
            sent_at = self.sent_at
            counters.model.samples.append(received_at - sent_at)
            # Handing the answer to the socket takes some microseconds more; asking the clock for
            # them would be the dearest part of measuring.
            counters.overhead.samples.append(sent_at - self.began_at)


class InvocationBody:
    """Passes a long body on while it arrives."""

    __slots__ = ("_connection", "_invocation", "_left", "_router")

    def __init__(
        self, router: Router, connection: HttpConnection, invocation: GatewayInvocation
    ) -> None:
        self._router = router
        self._connection = connection
        self._invocation = invocation
        self._left = invocation.body_length

    def feed(self, data: bytes) -> None:
        self._left -= len(data)
        self._send(data, more=self._left > 0)

    def end(self) -> None:
        """The last piece has been sent as such, for the length was known."""

    def _send(self, data: bytes, *, more: bool) -> None:
        invocation = self._invocation
        if invocation.recording is not None:
            invocation.recording.add_input(invocation, data)
        channel = invocation.channel
        if channel is not None and not channel.send_body(invocation, data, more):
            self._connection.pause_reading()
