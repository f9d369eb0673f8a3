"""Ids of sessions: what the client gets, what comes back, and what is refused."""

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.errors import InvalidRequest
from clary.router.sessions import (
    MAX_ID,
    ClosedSessions,
    Place,
    instance_tag,
    parse_session,
    session_header,
)

PLACE = Place(instance_tag("i-1"), 0xDEADBEEF)
NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
AWS_HEADER = re.compile(
    r"[a-zA-Z0-9](-*[a-zA-Z0-9])*;\sExpires=[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
)
ids = st.from_regex(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*", fullmatch=True).filter(lambda i: len(i) < 190)


@given(ids, st.integers(1, 2**32 - 1))
def test_the_container_gets_its_own_id_back(container_id, life):
    place = Place(instance_tag("i-2"), life)
    header = session_header(f"{container_id}; Expires=2027-01-15T08:00:01Z", place)
    assert AWS_HEADER.fullmatch(header)
    assert len(header) <= MAX_ID

    session = parse_session(header.partition(";")[0], NOW)

    assert session.container_id == container_id
    assert session.place == place
    assert session.ends_at == NOW + 1


@given(st.text(max_size=300))
def test_no_id_of_a_client_is_more_than_refused(text):
    with suppress(InvalidRequest):
        parse_session(text, NOW)


@pytest.mark.parametrize(
    ("from_container", "ends_at"),
    [
        pytest.param("ada-1; Expires=2027-01-15T08:00:10Z", NOW + 10, id="as AWS writes it"),
        pytest.param("ada-1;expires=2027-01-15T08:00:10Z", NOW + 10, id="nearly as AWS writes it"),
        pytest.param("ada-1", 0, id="without an end"),
        pytest.param("ada-1; Expires=tomorrow", 0, id="with an end that cannot be read"),
        pytest.param("ada-1; Expires=9999-12-31T23:59:59Z", 0xFFFFFFFF, id="with hardly an end"),
    ],
)
def test_the_end_of_a_session_is_in_its_id(from_container, ends_at):
    header = session_header(from_container, PLACE)

    session = parse_session(header.partition(";")[0], NOW)

    assert session.container_id == "ada-1"
    assert session.ends_at == ends_at
    assert header.partition(";")[1:] == from_container.partition(";")[1:]


@pytest.mark.parametrize("from_container", ["has space", "a_b", "", "é", "a" * 250])
def test_an_id_that_cannot_be_tagged_is_passed_on_as_it_is(from_container):
    assert session_header(from_container, PLACE) == from_container


@pytest.mark.parametrize(
    ("session_id", "words"),
    [
        ("ada-1", "is unknown"),
        ("5d0c7e61b2f4deadbeef00000000", "is unknown"),
        ("a_b", "failed to satisfy constraint"),
        ("", "failed to satisfy constraint"),
    ],
)
def test_an_id_that_no_gateway_gave_out_is_refused(session_id, words):
    with pytest.raises(InvalidRequest, match=words):
        parse_session(session_id, NOW)


def test_an_expired_session_is_refused():
    session_id = session_header("a; Expires=2027-01-15T08:00:00Z", PLACE).partition(";")[0]
    assert parse_session(session_id, NOW - 1).place == PLACE
    with pytest.raises(InvalidRequest, match="has expired"):
        parse_session(session_id, NOW)


def test_a_session_that_is_to_be_opened_has_no_place_yet():
    session = parse_session("NEW_SESSION", NOW)
    assert session.place is None
    assert session.container_id == "NEW_SESSION"


def test_the_last_closed_sessions_are_remembered():
    closed = ClosedSessions(limit=2)
    for session_id in ("a", "b", "c"):
        closed.add(session_id)
    assert [session_id in closed for session_id in "abc"] == [False, True, True]
