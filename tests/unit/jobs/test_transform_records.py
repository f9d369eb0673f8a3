import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.jobs.transform.cutting import BadInput
from clary.jobs.transform.records import assemble, make_processor
from clary.resources.transform_job import parse_processing

COLUMN = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=8)
ROWS = st.lists(st.lists(COLUMN, min_size=2, max_size=4), min_size=1, max_size=8)


def a_processor(kind: str = "text/csv", *, by_line: bool = True, **processing: str) -> Any:
    return make_processor(parse_processing(processing), kind, None, by_line=by_line)


def as_csv(rows: list[list[str]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode()


def test_nothing_to_do_touches_nothing() -> None:
    assert make_processor(parse_processing({}), None, None, by_line=False) is None


@pytest.mark.parametrize(
    ("processing", "body", "reply", "sent", "written"),
    [
        ({"InputFilter": "$[1:]"}, b"1,2,3\n", b"9\n", b"2,3\n", b"9\n"),
        ({"JoinSource": "Input"}, b"1,2\n3,4\n", b"a\nb", b"1,2\n3,4\n", b"1,2,a\n3,4,b\n"),
        (
            {"JoinSource": "Input", "OutputFilter": "$[0,-1]"},
            b"1,2\n",
            b"a,b\n",
            b"1,2\n",
            b"1,b\n",
        ),
        ({"OutputFilter": "$[1]"}, b"1\n", b"a,b\n", b"1\n", b"b\n"),
        ({"InputFilter": "$[1]"}, b'1,"a ""b"", c"\r\n', b"x", b'"a ""b"", c"\n', b"x\n"),
    ],
)
def test_csv(processing: Any, body: bytes, reply: bytes, sent: bytes, written: bytes) -> None:
    processor = a_processor(**processing)
    assert processor.prepare(body) == sent
    assert processor.finish(body, reply) == written


@pytest.mark.parametrize(
    ("processing", "body", "reply", "written"),
    [
        ({"JoinSource": "Input"}, '{"a":1}', '{"b":2}', '{"a":1,"SageMakerOutput":{"b":2}}'),
        ({"JoinSource": "Input"}, "[1]", "2", '{"SageMakerInput":[1],"SageMakerOutput":2}'),
        (
            {"JoinSource": "Input"},
            '{"SageMakerOutput":1}',
            "2",
            '{"SageMakerOutput":2}',
        ),
        ({"OutputFilter": "$.b"}, "{}", '{"b":"é"}', '"é"'),
        (
            {"JoinSource": "Input", "OutputFilter": "$['a','SageMakerOutput']"},
            '{"a":1,"c":3}',
            "2",
            '{"a":1,"SageMakerOutput":2}',
        ),
    ],
)
def test_json(processing: Any, body: str, reply: str, written: str) -> None:
    whole = a_processor("application/json", by_line=False, **processing)
    assert whole.finish(body.encode(), reply.encode()) == written.encode()
    lines = a_processor("application/jsonlines", **processing)
    two = [(text + "\n") * 2 for text in (body, reply, written)]
    assert lines.finish(two[0].encode(), two[1].encode()) == two[2].encode()


@pytest.mark.parametrize(
    ("kind", "processing", "body", "reply", "complaint"),
    [
        ("text/csv", {"JoinSource": "Input"}, b"1\n2\n", b"a\n", "2 records with 1"),
        ("text/csv", {"OutputFilter": "$[3]"}, b"1\n", b"a\n", "index 3"),
        ("text/csv", {"JoinSource": "Input"}, b"\xff\n", b"a\n", "no UTF-8"),
        ("application/json", {"OutputFilter": "$.a"}, b"{}", b"<html>", "no JSON"),
        ("application/json", {"OutputFilter": "$.a"}, b"{}", b"{}", "does not have a"),
    ],
)
def test_what_cannot_be_joined_or_filtered(
    kind: str, processing: Any, body: bytes, reply: bytes, complaint: str
) -> None:
    with pytest.raises(BadInput, match=complaint):
        a_processor(kind, **processing).finish(body, reply)


@given(ROWS, st.integers(0, 1))
def test_columns_keep_their_values_whatever_is_in_them(rows: list[list[str]], index: int) -> None:
    processor = a_processor(InputFilter=f"$[{index}]", JoinSource="Input")
    body = as_csv(rows)
    sent = list(csv.reader(io.StringIO(processor.prepare(body).decode(), newline="")))
    # A row of one empty column is an empty line, which readers pass over.
    assert [row[0] if row else "" for row in sent] == [row[index] for row in rows]
    joined = processor.finish(body, as_csv([["out"] for _ in rows])).decode()
    assert list(csv.reader(io.StringIO(joined, newline=""))) == [[*row, "out"] for row in rows]


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_any_json_is_joined(value: Any) -> None:
    processor = a_processor("application/jsonlines", JoinSource="Input")
    body = json.dumps(value).encode() + b"\n"
    assert json.loads(processor.finish(body, b"1\n")) == {
        "SageMakerInput": value,
        "SageMakerOutput": 1,
    }


@pytest.mark.parametrize(
    ("reply", "lines", "written"),
    [
        (b"a", True, b"a\n"),
        (b"a\n", True, b"a\n"),
        (b"", True, b""),
        (b"a", False, b"a"),
    ],
)
def test_assembling_by_line_makes_no_blank_lines(reply: bytes, lines: bool, written: bytes) -> None:
    assert assemble(reply, lines=lines) == written
