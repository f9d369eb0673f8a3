import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.resources.trace_context import MAX_STATE, TraceContext, read_context

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_context_is_read_and_written():
    context = read_context(f"00-{TRACE}-{SPAN}-01", "a=1,b=2")
    assert context == TraceContext(TRACE, SPAN, 1, "a=1,b=2")
    assert context.is_sampled
    assert context.headers() == {
        "traceparent": f"00-{TRACE}-{SPAN}-01",
        "tracestate": "a=1,b=2",
    }


def test_without_a_state_there_is_no_such_header():
    context = read_context(f" 00-{TRACE}-{SPAN}-00 ")
    assert context is not None
    assert not context.is_sampled
    assert set(context.headers()) == {"traceparent"}


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-0g",
        f"00-{TRACE}-{SPAN}-01\n00-{TRACE}-{SPAN}-01",
    ],
)
def test_what_is_none_is_none(parent):
    assert read_context(parent) is None


def test_later_versions_are_read_as_far_as_they_are_known():
    context = read_context(f"cc-{TRACE}-{SPAN}-ff-what-the-future-will-be-like")
    assert context == TraceContext(TRACE, SPAN, 1)
    assert context.parent == f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize("state", ["a=\x00", "ä=1", "a=1\r\nx: y", "x" * (MAX_STATE + 1)])
def test_a_state_that_cannot_be_sent_is_left_out(state):
    context = read_context(f"00-{TRACE}-{SPAN}-01", state)
    assert context is not None
    assert context.state == ""


@given(st.text(), st.text())
def test_anything_can_be_read(parent, state):
    context = read_context(parent, state)
    if context is not None:
        assert all(value.isascii() and value.isprintable() for value in context.headers().values())
