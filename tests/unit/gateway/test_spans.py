import pytest

from clary.gateway.spans import SpanQueue, SpanRecord, Trace, begin
from clary.messages import decode_meta, with_trace
from clary.resources.trace_context import read_context

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def record(*, sent_at: float = 1.5) -> SpanRecord:
    return SpanRecord(
        "InvokeEndpoint", "e", "v", "primary", 1, 0, 2, 3, "", 1.0, sent_at, 2.0, 200, ""
    )


def test_the_clients_decision_counts_and_not_the_ratio():
    sampled, other = (read_context(f"00-{TRACE}-{SPAN}-0{flag}") for flag in (1, 0))
    trace = begin(sampled, 0.0)
    assert trace is not None
    assert (trace.trace_id, trace.parent_id) == (int(TRACE, 16), int(SPAN, 16))
    assert begin(other, 1.0) is None


def test_without_a_client_the_ratio_decides():
    assert all(begin(None, 0.0) is None for _ in range(100))
    traces = [begin(None, 1.0) for _ in range(100)]
    assert all(trace is not None and trace.parent_id == 0 for trace in traces)
    assert len({trace.trace_id for trace in traces if trace}) == 100


def test_the_container_is_told_of_the_span_that_calls_it():
    trace = Trace(int(TRACE, 16), int(SPAN, 16), "a=1")
    assert trace.headers() == {
        "traceparent": f"00-{TRACE}-{trace.call_id:016x}-01",
        "tracestate": "a=1",
    }


@pytest.mark.parametrize("meta", [b"", b'{"accept":"*/*"}'])
def test_the_context_is_put_behind_other_headers(meta):
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": 'a="\\'}
    assert decode_meta(with_trace(meta, headers)) == {**decode_meta(meta), **headers}


def test_what_has_no_room_is_dropped_and_counted():
    queue = SpanQueue(2)
    for sent_at in (1.5, 1.5, 1.5, 0.0):
        queue.put(record(sent_at=sent_at))
    assert len(queue) == 2
    assert queue.counts == {"exported": 0, "dropped": 3}  # two of one that called, one of the other
    assert len(queue.take(10)) == 2
    queue.put(record())
    assert len(queue) == 1
