"""Files read as events, with times and positions."""

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clary.log_times import LogTimes
from clary.logs import file_streams
from clary.logs.file_streams import FileStream

LONG_AFTER_S = 10_000.0


class Writer:
    """Writes a log, and notes its times as a host does."""

    def __init__(self, path: Path, max_bytes: int = 0) -> None:
        self.path = path
        path.touch()
        os.utime(path, (1, 1))
        self.times = LogTimes(str(path), max_bytes)

    def write(self, data: bytes, second: int, *, note: bool = True) -> None:
        with self.path.open("ab") as file:
            file.write(data)
        os.utime(self.path, (second, second))
        if note:
            self.times.note()

    def stream(self, now_s: float = LONG_AFTER_S) -> FileStream:
        return FileStream("s", self.path, now_s)


@pytest.fixture
def log(tmp_path: Path) -> Writer:
    return Writer(tmp_path / "x.log")


def shown(stream: FileStream, start: int = 0, stop: int | None = None) -> list[tuple[int, str]]:
    end = stream.end if stop is None else stop
    return [(event.timestamp_ms // 1000, event.message) for event in stream.events(start, end)]


def test_lines_have_the_time_at_which_they_were_written(log: Writer) -> None:
    log.write(b"one\ntwo\n", 5)
    log.write(b"three\r\n\nfour\n", 9)
    stream = log.stream()

    assert shown(stream) == [(5, "one"), (5, "two"), (9, "three"), (9, "four")]
    assert (stream.first_event_ms, stream.last_event_ms) == (5000, 9000)
    assert shown(stream, stream.position_at(5001)) == [(9, "three"), (9, "four")]
    assert shown(stream, 0, stream.position_at(9000)) == [(5, "one"), (5, "two")]
    assert stream.position_at(9001) == stream.end


def test_a_line_belongs_to_the_time_of_its_beginning(log: Writer) -> None:
    log.write(b"one\ntw", 5)
    log.write(b"o\nthree\n", 9)
    assert shown(log.stream()) == [(5, "one"), (5, "two"), (9, "three")]
    assert shown(log.stream(), log.stream().position_at(6000)) == [(9, "three")]


def test_what_is_not_noted_is_shown_once_it_is_still(log: Writer) -> None:
    log.write(b"one\n", 5)
    log.write(b"two\nunfinish", 9, note=False)
    assert shown(log.stream(now_s=9.5)) == [(5, "one")]
    assert shown(log.stream(now_s=13.0)) == [(5, "one"), (9, "two"), (9, "unfinish")]


def test_a_line_that_is_being_written_is_not_shown(log: Writer) -> None:
    log.write(b"one\ntwo", 5)
    stream = log.stream(now_s=6.0)
    assert shown(stream) == [(5, "one")]
    piece = stream.first(0, stream.end, 10, 1000)
    log.write(b" is whole\n", 6)
    assert shown(log.stream(now_s=7.0), piece.stop) == [(5, "two is whole")]


def test_a_file_without_times_has_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("old\n")
    os.utime(path, (7, 7))
    assert shown(FileStream("s", path, LONG_AFTER_S)) == [(7, "old")]


def test_positions_go_on_over_a_cut(tmp_path: Path) -> None:
    log = Writer(tmp_path / "x.log", max_bytes=20)
    log.write(b"0123456\nabc\ndef\n", 5)
    token = log.stream().end
    log.write(b"next\n", int(os.stat(log.path).st_mtime) + 5)
    stream = log.stream(now_s=4e9)

    assert shown(stream)[:2] == [(5, "abc"), (5, "def")]
    assert [message for _, message in shown(stream, token)] == ["next"]
    assert [e.message for e in stream.last(0, stream.end, 1, 1000).events] == ["next"]
    assert [e.message for e in stream.last(0, token, 5, 1000).events] == ["abc", "def"]
    assert shown(stream, stream.position_at(4000))[0] == (5, "abc")


def test_what_was_emptied_is_empty_until_more_comes(log: Writer) -> None:
    assert log.stream().is_empty is False
    log.write(b"one\n", 5)
    os.truncate(log.path, 0)
    log.times.note()
    assert log.stream().is_empty is True
    log.write(b"two\n", 2_000_000_000)
    assert log.stream().is_empty is False
    assert [message for _, message in shown(log.stream(now_s=4e9))] == ["two"]


def test_long_lines_become_several_events(log: Writer) -> None:
    log.write(b"a" * (file_streams.MAX_EVENT_BYTES + 70_000) + b"\nshort\n", 5)
    stream = log.stream()
    events = list(stream.events(0, stream.end))
    assert max(len(event.message) for event in events) <= file_streams.MAX_EVENT_BYTES + 64 * 1024
    assert "".join(event.message for event in events[:-1]) == "a" * (
        file_streams.MAX_EVENT_BYTES + 70_000
    )
    assert events[-1].message == "short"
    for event, following in pairwise(events):
        assert event.next_position == following.position


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.text(alphabet="ab \n", max_size=30), st.integers(0, 3), st.booleans()),
        max_size=12,
    ),
    st.integers(1, 5),
)
def test_pages_in_both_directions_have_every_line_once(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[str, int, bool]], size: int
) -> None:
    log = Writer(tmp_path_factory.mktemp("log") / "x.log")
    second = 10
    for text, pause, note in writes:
        second += pause
        log.write(text.encode(), second, note=note)
    stream = log.stream()
    lines = [line for line in log.path.read_text().split("\n") if line]

    forward, position = [], 0
    while (piece := stream.first(position, stream.end, size, 1000)).events:
        forward += piece.events
        position = piece.stop
    assert [event.message for event in forward] == lines

    backward, position = [], stream.end
    while (piece := stream.last(0, position, size, 1000)).events:
        backward[:0] = piece.events
        position = piece.start
    assert backward == forward
    times = [event.timestamp_ms for event in forward]
    assert times == sorted(times)
    for time_ms in set(times):
        rest = list(stream.events(stream.position_at(time_ms), stream.end))
        assert rest == [event for event in forward if event.timestamp_ms >= time_ms]
