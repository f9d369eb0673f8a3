from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.resources.record_paths import RecordPath, RecordPathError

RECORD = {"id": 7, "deep": {"a": 1, "b": [1, 2, 3]}, "list": ["x", "y", "z"], "odd name": True}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$", RECORD),
        ("$.id", 7),
        ("$.deep.a", 1),
        ("$.deep.*", [1, [1, 2, 3]]),
        ("$.list[*]", ["x", "y", "z"]),
        ("$['odd name']", True),
        ("$['id','list']", {"id": 7, "list": ["x", "y", "z"]}),
        ('$["id"]', 7),
        ("$.list[1]", "y"),
        ("$.list[-1]", "z"),
        ("$.list[0,2]", ["x", "z"]),
        ("$.list[1:]", ["y", "z"]),
        ("$.deep.b[0:1]", [1, 2]),
    ],
)
def test_what_a_path_selects_of_json(path: str, value: Any) -> None:
    assert RecordPath(path).select(RECORD) == value


@pytest.mark.parametrize(
    ("path", "columns"),
    [
        ("$", "abcdefg"),
        ("$[1]", "b"),
        ("$[-1]", "g"),
        ("$[1,3,5]", "bdf"),
        # AWS's own examples: the 2nd to the 5th column; six columns.
        ("$[1:4]", "bcde"),
        ("$[:5]", "abcdef"),
        ("$[5:]", "fg"),
        ("$[-2:]", "fg"),
    ],
)
def test_what_a_path_selects_of_a_row(path: str, columns: str) -> None:
    assert list(RecordPath(path).columns(list("abcdefg"))) == list(columns)


@pytest.mark.parametrize("path", ["$[7]", "$[-8]", "$[1,9]", "$[2:7]"])
def test_a_column_outside_of_the_row_is_an_error(path: str) -> None:
    with pytest.raises(RecordPathError, match="outside of a record of 7 items"):
        RecordPath(path).columns(list("abcdefg"))


@pytest.mark.parametrize("path", ["$.none", "$.id.x", "$.id[0]", "$.id.*", "$['id','none']"])
def test_a_member_that_is_not_there_is_an_error(path: str) -> None:
    with pytest.raises(RecordPathError):
        RecordPath(path).select(RECORD)


@pytest.mark.parametrize(
    "path", ["", "id", ".id", "$id", "$.", "$..id", "$[", "$[a]", "$[?(@.a)]", "$['a'", "$[1:2:3]"]
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(RecordPathError):
        RecordPath(path)


@pytest.mark.parametrize(
    ("path", "is_for_rows"), [("$", True), ("$[0]", True), ("$[1:]", True), ("$.a", False)]
)
def test_rows_have_no_names(path: str, is_for_rows: bool) -> None:
    assert RecordPath(path).is_for_rows is is_for_rows


@given(st.text(max_size=63))
def test_any_text_is_a_path_or_refused(text: str) -> None:
    try:
        path = RecordPath("$" + text)
    except RecordPathError:
        return
    assert path.text == "$" + text


@given(st.lists(st.text(), min_size=1, max_size=9), st.integers(-9, 8), st.integers(-9, 8))
def test_a_slice_has_both_its_ends(row: list[str], first: int, last: int) -> None:
    count = len(row)
    path = RecordPath(f"$[{first}:{last}]")
    if not (-count <= first < count and -count <= last < count):
        with pytest.raises(RecordPathError):
            path.columns(row)
        return
    assert path.columns(row) == row[first % count : last % count + 1]
