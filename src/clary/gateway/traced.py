"""Invocations that leave spans, and the runtime API that makes them.

Only used where a collector is named in the settings: without one, there is nothing of this in a
call.
"""

import time
from typing import TYPE_CHECKING

from clary.errors import AccessDenied, InvocationError
from clary.gateway.clockwork import Clockwork
from clary.gateway.guard import Guard
from clary.gateway.http import HttpConnection
from clary.gateway.invocations import GatewayInvocation
from clary.gateway.operations import INVOKE, STREAM, TRACEPARENT
from clary.gateway.requests import BodySink, Request
from clary.gateway.runtime import RuntimeApi, client_context
from clary.gateway.spans import SpanQueue, SpanRecord, Trace, begin
from clary.gateway.streaming import StreamInvocation
from clary.messages import with_trace
from clary.router.router import Router
from clary.settings import Settings

if TYPE_CHECKING:
    Base = GatewayInvocation
else:
    Base = object

GONE = "The client closed the connection."


class Traced(Base):
    """What an invocation does to leave its spans, once, when it has ended."""

    trace: Trace | None
    """None: it is not sampled, or its spans are on their way."""

    spans: SpanQueue
    status: int

    def leave(self, ended_at: float, error: str = "") -> None:
        """Hand the spans over, if that was not done.

        Args:
            ended_at: On the monotonic clock.
            error: Why there is no answer.
        """
        trace = self.trace
        if trace is None:
            return
        self.trace = None
        self.spans.put(
            SpanRecord(
                STREAM.name if self.wants_stream else INVOKE.name,
                self.endpoint,
                self.variant,
                self.container,
                trace.trace_id,
                trace.parent_id,
                trace.span_id,
                trace.call_id,
                trace.state,
                self.began_at,
                self.sent_at,
                ended_at,
                0 if error else self.status,
                error,
            )
        )

    def _count_answer(self, status: int) -> None:
        self.status = status
        super()._count_answer(status)

    def _measure(self, received_at: float) -> None:
        super()._measure(received_at)
        self.leave(received_at)

    def on_failure(self, error: InvocationError) -> None:
        self.leave(time.monotonic(), str(error) or type(error).__name__)
        super().on_failure(error)

    def on_client_gone(self) -> None:
        self.leave(time.monotonic(), GONE)
        super().on_client_gone()


class TracedInvocation(Traced, GatewayInvocation):
    """InvokeEndpoint, traced."""


class TracedStream(Traced, StreamInvocation):
    """InvokeEndpointWithResponseStream, traced."""


class TracedRuntimeApi(RuntimeApi):
    """The operations of ``sagemaker-runtime``, leaving spans."""

    def __init__(
        self,
        settings: Settings,
        router: Router,
        guard: Guard,
        clockwork: Clockwork,
        spans: SpanQueue,
    ) -> None:
        super().__init__(settings, router, guard, clockwork)
        self._spans = spans
        self._ratio = settings.otel.sample_ratio
        self._plain = TracedInvocation
        self._stream = TracedStream
        self._parsed: Traced | None = None
        """What has come of the request that is being looked at."""

    def handle(self, connection: HttpConnection, request: Request) -> None:
        self._parsed = None
        super().handle(connection, request)

    def open_body(self, connection: HttpConnection, request: Request) -> BodySink | int:
        self._parsed = None
        return super().open_body(connection, request)

    def _parse(self, connection: HttpConnection, request: Request) -> GatewayInvocation:
        invocation = super()._parse(connection, request)
        assert isinstance(invocation, Traced)
        headers = request.headers
        context = client_context(headers) if TRACEPARENT in headers else None
        trace = begin(context, self._ratio)
        invocation.trace = trace
        invocation.spans = self._spans
        invocation.status = 200
        if trace is not None:
            invocation.meta = with_trace(invocation.meta, trace.headers())
        elif context is not None:
            invocation.meta = with_trace(invocation.meta, context.headers())
        self._parsed = invocation
        return invocation

    def _carry(self, meta: bytes, headers: dict[bytes, bytes]) -> bytes:
        return meta  # by ``_parse``, which knows the ids

    def _refusal(self, connection: HttpConnection, request: Request, error: Exception) -> bytes:
        if self._parsed is not None and not isinstance(error, AccessDenied):
            self._parsed.leave(time.monotonic(), str(error))
        return super()._refusal(connection, request, error)
