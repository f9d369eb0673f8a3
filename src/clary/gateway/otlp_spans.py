"""Records of invocations as OpenTelemetry's spans. Imported only where a collector is named."""

from collections.abc import Iterator, Mapping

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.span import TraceState
from opentelemetry.trace.status import Status, StatusCode

from clary.gateway.spans import SpanRecord

CALL = "call model"
"""Name of the span inside; that of an invocation is its operation."""

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def readable_spans(
    record: SpanRecord, ahead_s: float, *, resource: Resource, scope: InstrumentationScope
) -> Iterator[ReadableSpan]:
    """Give the spans of an invocation.

    Args:
        record: The invocation.
        ahead_s: What the wall clock is ahead of the monotonic one, in seconds.
        resource: Who tells it.
        scope: By what.
    """
    state = TraceState.from_header([record.state]) if record.state else TraceState()

    def context(span_id: int, *, is_remote: bool) -> SpanContext:
        return SpanContext(record.trace_id, span_id, is_remote, _SAMPLED, state)

    def moment(at: float) -> int:
        return int((at + ahead_s) * 1e9)

    place = {"clary.endpoint": record.endpoint}
    if record.variant:
        place["clary.variant"] = record.variant
    attributes: Mapping[str, str | int] = (
        {**place, "http.response.status_code": record.status} if record.status else place
    )
    own = context(record.span_id, is_remote=False)
    status = _status(record)
    yield ReadableSpan(
        record.operation,
        context=own,
        parent=context(record.parent_id, is_remote=True) if record.parent_id else None,
        resource=resource,
        attributes={
            "rpc.system": "aws-api",
            "rpc.service": "SageMaker Runtime",
            "rpc.method": record.operation,
            **attributes,
        },
        kind=SpanKind.SERVER,
        status=status,
        start_time=moment(record.began_at),
        end_time=moment(record.ended_at),
        instrumentation_scope=scope,
    )
    if record.sent_at:
        yield ReadableSpan(
            CALL,
            context=context(record.call_id, is_remote=False),
            parent=own,
            resource=resource,
            attributes={**attributes, "clary.container": record.container},
            kind=SpanKind.CLIENT,
            status=status,
            start_time=moment(record.sent_at),
            end_time=moment(record.ended_at),
            instrumentation_scope=scope,
        )


def _status(record: SpanRecord) -> Status:
    if record.error:
        return Status(StatusCode.ERROR, record.error[:1024])
    if not 200 <= record.status < 300:
        return Status(StatusCode.ERROR, f"The model answered {record.status}.")
    return Status(StatusCode.UNSET)
