"""Conditions and ranges as tables."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.aws.fault import Fault
from clary.objects.conditions import (
    ByteRange,
    NotModified,
    check_read,
    check_write,
    resolve_copy_range,
    resolve_range,
)

THEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EARLIER, LATER = THEN - timedelta(days=1), THEN + timedelta(days=1)


@pytest.mark.parametrize(
    ("conditions", "outcome"),
    [
        ({}, "read"),
        ({"IfMatch": '"e"'}, "read"),
        ({"IfMatch": "e"}, "read"),
        ({"IfMatch": "*"}, "read"),
        ({"IfMatch": '"x", "e"'}, "read"),
        ({"IfMatch": '"x"'}, "PreconditionFailed"),
        ({"IfNoneMatch": '"x"'}, "read"),
        ({"IfNoneMatch": 'W/"e"'}, "unchanged"),
        ({"IfModifiedSince": EARLIER}, "read"),
        ({"IfModifiedSince": THEN}, "unchanged"),
        ({"IfUnmodifiedSince": THEN}, "read"),
        ({"IfUnmodifiedSince": EARLIER}, "PreconditionFailed"),
        # RFC 9110, 13.2.2: an entity tag is stronger than a date.
        ({"IfMatch": '"e"', "IfUnmodifiedSince": EARLIER}, "read"),
        ({"IfNoneMatch": '"x"', "IfModifiedSince": LATER}, "read"),
        ({"IfNoneMatch": '"e"', "IfModifiedSince": EARLIER}, "unchanged"),
    ],
)
def test_a_reader_gets_what_its_conditions_say(conditions: dict[str, Any], outcome: str) -> None:
    try:
        check_read(conditions, "e", THEN)
        found = "read"
    except NotModified as unchanged:
        found = {'"e"': "unchanged"}[unchanged.headers["etag"]]
    except Fault as fault:
        found = fault.code
    assert found == outcome


@pytest.mark.parametrize(
    ("conditions", "etag", "code"),
    [
        ({"IfNoneMatch": "*"}, None, None),
        ({"IfNoneMatch": "*"}, "e", "PreconditionFailed"),
        ({"IfNoneMatch": '"e"'}, None, "NotImplemented"),
        ({"IfMatch": '"e"'}, "e", None),
        ({"IfMatch": '"x"'}, "e", "PreconditionFailed"),
        ({"IfMatch": '"e"'}, None, "NoSuchKey"),
    ],
)
def test_a_writer_may_do_what_its_conditions_say(
    conditions: dict[str, Any], etag: str | None, code: str | None
) -> None:
    if code is None:
        check_write(conditions, "k", etag)
    else:
        with pytest.raises(Fault) as caught:
            check_write(conditions, "k", etag)
        assert caught.value.code == code


@given(st.integers(0, 30), st.integers(0, 40), st.integers(0, 40), st.sampled_from("flb"))
def test_a_range_is_what_slicing_gives(size: int, first: int, last: int, form: str) -> None:
    body = bytes(range(size))
    header = {"f": f"bytes={first}-", "l": f"bytes=-{last}", "b": f"bytes={first}-{last}"}[form]
    expected = {
        "f": body[first:],
        "l": body[max(0, size - last) :] if last else b"",
        "b": body[first : last + 1],
    }[form]
    if not expected and not (form == "b" and last < first):
        with pytest.raises(Fault, match="InvalidRange"):
            resolve_range(header, size)
        return
    found = resolve_range(header, size)
    if found is None:
        assert form == "b"
        assert last < first
    else:
        assert body[found.start : found.start + found.length] == expected


@given(st.text(alphabet="bytes=-,0123 \u0663x", max_size=30))
def test_text_without_any_range_is_ignored(header: str) -> None:
    if not re.search(r"\d", header):
        assert resolve_range(header, 10) is None


def test_a_range_of_a_copy_has_both_ends_within_the_source() -> None:
    assert resolve_copy_range("bytes=2-5", 6) == ByteRange(2, 4)
    for header in ("bytes=2-6", "bytes=2-", "bytes=-2", "2-3", "bytes=3-2"):
        with pytest.raises(Fault):
            resolve_copy_range(header, 6)
