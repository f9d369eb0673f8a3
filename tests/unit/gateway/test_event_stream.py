"""Event stream messages, as botocore reads them."""

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from clary.gateway.event_stream import (
    MAX_PAYLOAD,
    encode_event,
    encode_exception,
    encode_message,
    encode_payload_parts,
)

HEADERS = st.dictionaries(
    st.text(min_size=1, max_size=20), st.text(max_size=20) | st.binary(max_size=20)
)


@given(st.lists(st.tuples(HEADERS, st.binary(max_size=200)), max_size=4), st.integers(1, 50))
def test_botocore_reads_what_is_encoded(messages: list, cut: int) -> None:
    data = b"".join(encode_message(headers, payload) for headers, payload in messages)
    buffer = EventStreamBuffer()
    found = []
    for start in range(0, len(data), cut):
        buffer.add_data(data[start : start + cut])
        found.extend((message.headers, message.payload) for message in buffer)
    assert found == messages


def test_events_and_exceptions_name_their_types() -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(encode_event("PayloadPart", b"abc", "application/octet-stream"))
    buffer.add_data(encode_exception("ModelStreamError", b"{}", "application/json"))
    event, exception = buffer
    assert event.headers[":event-type"] == "PayloadPart"
    assert event.headers[":message-type"] == "event"
    assert exception.headers[":exception-type"] == "ModelStreamError"
    assert exception.to_response_dict()["status_code"] == 400


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_the_quick_way_to_payload_parts_gives_the_same_bytes(payloads: list[bytes]) -> None:
    events = [encode_event("PayloadPart", each, "application/octet-stream") for each in payloads]
    assert encode_payload_parts(payloads) == b"".join(events)


def test_a_payload_over_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="more than one event"):
        encode_message({}, bytes(MAX_PAYLOAD + 1))
    with pytest.raises(ValueError, match="more than one event"):
        encode_payload_parts([bytes(MAX_PAYLOAD + 1)])
