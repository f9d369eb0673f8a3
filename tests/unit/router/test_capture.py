"""What is noted of captured calls, and how much of it is held."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clary.messages import encode_meta
from clary.metrics.registry import VariantCounters
from clary.resources.data_capture import DataCapture
from clary.resources.routing_table import EndpointRoute
from clary.router.capture import OVERHEAD_BYTES, CaptureQueue, Captures, Contexts, Recording
from clary.router.capture_records import CaptureContext, CaptureRecord, Observed, pack, unpack
from clary.router.invocation import Invocation
from clary.settings import CaptureSettings

CAPTURE = DataCapture(share=1.0, destination="s3://b/p", takes_input=True, takes_output=True)
INPUT_ONLY = DataCapture(share=1.0, destination="s3://b/p", takes_input=True, takes_output=False)
JSON_META = encode_meta({"content-type": "application/json"})


def a_queue(**limits: int) -> CaptureQueue:
    return CaptureQueue(CaptureSettings(**limits))


def an_invocation(body: bytes = b"", **headers: str) -> Invocation:
    meta = encode_meta({name.replace("_", "-"): value for name, value in headers.items()})
    invocation = Invocation("digits", meta, body, deadline=0.0)
    invocation.variant = "AllTraffic"
    invocation.counters = VariantCounters()
    return invocation


def a_recording(queue: CaptureQueue, capture: DataCapture = CAPTURE) -> Recording:
    return Recording(queue, capture, "id-1", began_at=1.5)


def free_bytes(queue: CaptureQueue, most: int) -> int:
    """How much room is left, found by asking for it."""
    for count in range(most, -1, -1):
        if queue.reserve(count):
            queue.release(count)
            return count
    raise AssertionError("less than nothing")


def counted(invocation: Invocation) -> int:
    """How often it was dropped for want of room."""
    assert invocation.counters is not None
    return invocation.counters.capture_dropped


def test_a_whole_call_becomes_a_record() -> None:
    queue = a_queue()
    call = an_invocation(
        b"1,2",
        content_type="text/csv",
        x_amzn_sagemaker_custom_attributes="a=b",
        x_amzn_sagemaker_inference_id="mine",
    )
    recording = a_recording(queue)
    recording.begin(200, JSON_META)
    recording.end(call, b"[3]")

    (taken,) = queue.take(10, 1000)

    context = CaptureContext(
        destination="s3://b/p",
        endpoint="digits",
        variant="AllTraffic",
        input=Observed("text/csv", "CSV"),
        output=Observed("application/json", "JSON"),
        custom_attributes="a=b",
        inference_id="mine",
    )
    assert taken.record() == CaptureRecord(context, "id-1", 1.5, b"1,2", b"[3]")
    assert counted(call) == 0


def test_parts_are_joined_on_both_sides_and_a_side_that_is_not_wanted_is_not_kept() -> None:
    queue = a_queue()
    for capture in (CAPTURE, INPUT_ONLY):
        call = an_invocation()
        call.is_streamed, call.body_length = True, 4
        recording = a_recording(queue, capture)
        recording.add_input(call, b"ab")
        recording.add_input(call, b"cd")
        recording.begin(200, b"")
        recording.add_output(call, b"ef")
        recording.end(call, b"gh")

    both, one = (taken.record() for taken in queue.take(10, 10_000))

    unknown = Observed("application/octet-stream", "BASE64")
    assert (both.context.input, both.input) == (unknown, b"abcd")
    assert (both.context.output, both.output) == (unknown, b"efgh")
    assert (one.context.input, one.input) == (unknown, b"abcd")
    assert (one.context.output, one.output) == (None, b"")


@pytest.mark.parametrize("how", ["status", "dropped", "answered too early"])
def test_what_did_not_go_well_leaves_nothing_behind(how: str) -> None:
    queue = a_queue(queue_bytes=5000)
    call = an_invocation()
    call.is_streamed, call.body_length = True, 10
    recording = a_recording(queue)
    recording.add_input(call, b"12345")
    recording.begin(500 if how == "status" else 200, b"")
    recording.add_output(call, b"out")
    if how == "dropped":
        recording.drop()
    recording.add_output(call, b"more")
    recording.end(call, b"")

    assert queue.take(10, 1000) == []
    assert free_bytes(queue, 5000) == 5000
    assert counted(call) == 0


@pytest.mark.parametrize("side", ["input", "output", "parts of the input", "parts of the output"])
def test_a_call_with_a_body_beyond_the_limit_is_dropped_and_counted(side: str) -> None:
    queue = a_queue(max_body_bytes=100, queue_bytes=5000)
    long, short = b"x" * 101, b"x" * 100
    call = an_invocation(long if side == "input" else short)
    recording = a_recording(queue)
    if side == "parts of the input":
        call.is_streamed = True
        recording.add_input(call, short)
        recording.add_input(call, b"x")
    recording.begin(200, b"")
    if side == "parts of the output":
        recording.add_output(call, short)
    recording.end(call, long if side == "output" else b"x")

    assert queue.take(10, 1000) == []
    assert free_bytes(queue, 5000) == 5000
    assert counted(call) == 1


def test_what_the_queue_cannot_hold_is_dropped_until_there_is_room_again() -> None:
    size = OVERHEAD_BYTES + 20
    queue = a_queue(queue_bytes=2 * size)
    calls = [an_invocation(b"x" * 10) for _ in range(4)]

    def capture(call: Invocation) -> None:
        recording = a_recording(queue)
        recording.begin(200, b"")
        recording.end(call, b"y" * 10)

    for call in calls[:3]:
        capture(call)
    assert [counted(call) for call in calls[:3]] == [0, 0, 1]
    taken = queue.take(1, 10_000)
    capture(calls[2])
    assert counted(calls[2]) == 2, "what is on its way has its room"
    queue.done(taken)
    capture(calls[3])
    assert counted(calls[3]) == 0


def test_batches_are_bounded_by_number_and_size() -> None:
    queue = a_queue()
    for _ in range(5):
        recording = a_recording(queue)
        recording.begin(200, b"")
        recording.end(an_invocation(b"x" * 1000), b"")
    assert queue.arrived.is_set()
    assert len(queue.take(2, 1_000_000)) == 2
    assert len(queue.take(10, OVERHEAD_BYTES)) == 1, "one at least"
    assert len(queue.take(10, 1_000_000)) == 2
    assert not queue.arrived.is_set()


def test_the_copy_for_a_shadow_has_the_same_id_and_time() -> None:
    queue = a_queue()
    original = a_recording(queue)
    copy = original.for_shadow()
    for recording in (original, copy):
        recording.begin(200, b"")
        recording.end(an_invocation(), b"")
    first, second = (taken.record() for taken in queue.take(10, 10_000))
    assert (first.event_id, first.time) == (second.event_id, second.time)
    assert (first.context.is_shadow, second.context.is_shadow) == (False, True)


def test_captures_follow_the_routes() -> None:
    captures, told = Captures(), []
    captures.on_first = lambda: told.append(1)
    with_it = EndpointRoute(name="a", variants=(), capture=CAPTURE)
    captures.follow("plain", EndpointRoute(name="plain", variants=()))
    assert told == []
    captures.follow("a", with_it)
    captures.follow("b", with_it)
    assert (captures.by_endpoint, told) == ({"a": CAPTURE, "b": CAPTURE}, [1])
    captures.follow("a", EndpointRoute(name="a", variants=()))
    captures.follow("b", None)
    assert captures.by_endpoint == {}


def test_calls_that_look_alike_share_a_context_until_the_configuration_changes() -> None:
    contexts = Contexts()
    key = ("digits", "AllTraffic", JSON_META, JSON_META, False)
    first = contexts.find(CAPTURE, key)
    assert contexts.find(CAPTURE, key) is first
    assert contexts.find(INPUT_ONLY, key).output is None


SIDES = st.none() | st.builds(Observed, st.text(), st.sampled_from(["CSV", "BASE64"]))
CONTEXTS = st.builds(
    CaptureContext,
    destination=st.text(),
    endpoint=st.text(),
    variant=st.text(),
    input=SIDES,
    output=SIDES,
    custom_attributes=st.none() | st.text(),
    inference_id=st.none() | st.text(),
    is_shadow=st.booleans(),
)
RECORDS = st.builds(
    CaptureRecord, CONTEXTS, st.text(), st.floats(0, 1e10), st.binary(), st.binary()
)


@settings(deadline=None)
@given(st.lists(RECORDS, max_size=5))
def test_a_batch_is_read_as_it_was_written(records: list[CaptureRecord]) -> None:
    assert unpack(pack(records)) == records


@settings(deadline=None)
@given(st.lists(RECORDS, max_size=3), st.data())
def test_a_batch_that_breaks_off_or_goes_on_is_refused(
    records: list[CaptureRecord], data: st.DataObject
) -> None:
    batch = pack(records)
    cut = data.draw(st.integers(0, len(batch) - 1))
    for wrong in (batch[:cut], batch + b"x"):
        with pytest.raises(ValueError, match=r"."):
            unpack(wrong)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_batch_are_refused_and_nothing_else_happens(junk: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack(junk)


CONTEXT = b'{"destination":"","endpoint":"","variant":"","input":null,"output":null}'


@pytest.mark.parametrize(
    "head",
    [
        b"[]",
        b"1",
        b"{}",
        b'{"contexts":[],"records":[[0,"",0,0,0]]}',
        b'{"contexts":[{}],"records":[]}',
        b'{"contexts":[%b],"records":[[0,"",0,-5,5]]}' % CONTEXT,
        b'{"contexts":[%b],"records":[[0,"",0,0,1]]}' % CONTEXT,
        b'{"contexts":[%b],"records":[[0]]}' % CONTEXT,
    ],
)
def test_a_head_that_says_something_else_is_refused(head: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack(len(head).to_bytes(4, "big") + head)
