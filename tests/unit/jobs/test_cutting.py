import struct
from itertools import pairwise

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.jobs.transform.cutting import BadInput, Payload, make_cutter

PIECES = st.lists(st.integers(1, 40), min_size=1, max_size=20)
LINES = st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"") + b"\n"), max_size=30)


def cut(
    data: bytes, split: str, limit: int, *, single: bool, sizes: list[int], offset: int = 0
) -> list[Payload]:
    """Feed data in pieces of these sizes, over and over."""
    cutter = make_cutter(split, limit, single=single, offset=offset)
    payloads = []
    position, turn = 0, 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        payloads += cutter.feed(data[position : position + size])
        position, turn = position + size, turn + 1
    payloads += cutter.finish()
    return [Payload(bytes(payload.body), payload.end) for payload in payloads]


def recordio(data: bytes, flag: int = 0) -> bytes:
    padding = -len(data) % 4
    return struct.pack("<II", 0xCED7230A, flag << 29 | len(data)) + data + b"\0" * padding


def tfrecord(data: bytes) -> bytes:
    def masked(content: bytes) -> bytes:
        crc = google_crc32c.value(content)
        return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def check_places(payloads: list[Payload], data: bytes, offset: int) -> None:
    """Each payload stands where it says, and all together are the input."""
    assert b"".join(payload.body for payload in payloads) == data
    ends = [offset, *(payload.end for payload in payloads)]
    assert [b - a for a, b in pairwise(ends)] == [len(payload.body) for payload in payloads]


@given(LINES, PIECES, st.booleans(), st.integers(0, 1000))
def test_lines_are_cut_whole_and_in_order(
    lines: list[bytes], sizes: list[int], ends_open: bool, offset: int
) -> None:
    data = b"".join(lines)
    data = data[:-1] if ends_open else data
    for single in (True, False):
        payloads = cut(data, "Line", 64, single=single, sizes=sizes, offset=offset)
        check_places(payloads, data, offset)
        assert all(len(payload.body) <= 64 for payload in payloads)
        assert all(payload.body.endswith(b"\n") for payload in payloads[:-1])
    assert len(cut(data, "Line", 64, single=True, sizes=sizes)) == len(data.splitlines(True)) or (
        b"\r" in data or any(c in data for c in b"\v\f\x1c\x1d\x1e")
    )


@given(LINES, PIECES)
def test_a_payload_has_as_many_lines_as_fit(lines: list[bytes], sizes: list[int]) -> None:
    payloads = cut(b"".join(lines), "Line", 64, single=False, sizes=sizes)
    for payload, following in pairwise(payloads):
        next_line = following.body[: following.body.index(b"\n") + 1]
        assert len(payload.body) + len(next_line) > 64


@pytest.mark.parametrize("split", ["RecordIO", "TFRecord"])
@given(st.lists(st.binary(max_size=30), max_size=12), PIECES, st.booleans())
def test_framed_records_are_cut_whole(
    split: str, records: list[bytes], sizes: list[int], single: bool
) -> None:
    frames = [recordio(r) if split == "RecordIO" else tfrecord(r) for r in records]
    payloads = cut(b"".join(frames), split, 100, single=single, sizes=sizes, offset=5)
    check_places(payloads, b"".join(frames), 5)
    if single:
        assert [payload.body for payload in payloads] == frames


def test_a_record_in_several_chunks_is_one() -> None:
    record = recordio(b"one", 1) + recordio(b"two", 2) + recordio(b"three", 3)
    payloads = cut(record + recordio(b"x"), "RecordIO", 0, single=True, sizes=[7])
    assert [payload.body for payload in payloads] == [record, recordio(b"x")]


BAD_LENGTH = b"\0" * 8 + tfrecord(b"data")[8:]
BAD_DATA = tfrecord(b"data")[:-5] + b"!" + tfrecord(b"data")[-4:]


@pytest.mark.parametrize(
    ("split", "data", "complaint"),
    [
        ("RecordIO", b"no such thing", "does not begin with the magic"),
        ("RecordIO", recordio(b"data")[:-1], "ends inside of a record"),
        ("RecordIO", recordio(b"data", 2), "out of order"),
        ("RecordIO", recordio(b"data", 1) + recordio(b"data"), "out of order"),
        ("TFRecord", BAD_LENGTH, "checksum of a length"),
        ("TFRecord", BAD_DATA, "checksum of a record"),
        ("TFRecord", tfrecord(b"data")[:-1], "ends inside of a record"),
    ],
)
def test_broken_records_are_refused(split: str, data: bytes, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        cut(data, split, 0, single=False, sizes=[3])


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize(
    ("split", "data"),
    [
        ("Line", b"a\n" + b"x" * 1048577 + b"\nb\n"),
        ("Line", b"x" * 1048577),
        ("RecordIO", recordio(b"x" * 1048576)),
        ("TFRecord", tfrecord(b"x" * 1048576)),
        ("None", b"x" * 1048577),
    ],
)
def test_a_record_that_does_not_fit_is_refused(split: str, data: bytes, single: bool) -> None:
    with pytest.raises(BadInput, match=r"larger than 1MB\. Please increase your max_payload"):
        cut(data, split, 1024 * 1024, single=single, sizes=[65536])


@pytest.mark.parametrize("single", [True, False])
def test_a_record_that_just_fits_is_taken(single: bool) -> None:
    data = b"x" * 63 + b"\n" + b"y" * 64
    payloads = cut(data, "Line", 64, single=single, sizes=[10])
    assert [len(payload.body) for payload in payloads] == [64, 64]


def test_a_file_that_is_not_split_is_one_payload() -> None:
    assert cut(b"abc\ndef", "None", 0, single=False, sizes=[2]) == [Payload(b"abc\ndef", 7)]


def test_an_empty_input_has_no_payload() -> None:
    for split in ("None", "Line", "RecordIO", "TFRecord"):
        assert cut(b"", split, 64, single=False, sizes=[1]) == []
