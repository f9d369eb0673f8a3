"""Times of lines, and logs that are cut while they are written to."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clary.log_times import (
    RECORD,
    LogTimes,
    older_path,
    open_to_append,
    read_ends,
    times_path,
)


class Log:
    """A log with one writer, whose clock is told."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "x.log"
        self.writer = self.path.open("ab", buffering=0)
        self.at(1)

    def at(self, second: int) -> None:
        os.utime(self.path, (second, second))

    def write(self, text: str, second: int) -> None:
        self.writer.write(text.encode())
        self.at(second)

    def records(self, path: Path | None = None) -> list[tuple[int, int]]:
        data = Path(times_path(str(path or self.path))).read_bytes()
        return list(RECORD.iter_unpack(data))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path)
    yield log
    log.writer.close()


def test_a_record_says_what_was_written_by_when(log: Log) -> None:
    times = LogTimes(str(log.path))
    assert times.note() is False
    log.write("one\n", 5)
    assert times.note() is True
    assert times.note() is False
    log.write("two\n", 7)
    times.note()

    assert log.records() == [(0, 1000), (4, 5000), (8, 7000)]
    assert read_ends(str(log.path)) == ((0, 1000), (8, 7000))


def test_times_never_go_back(log: Log) -> None:
    times = LogTimes(str(log.path))
    log.write("one\n", 9)
    times.note()
    log.write("two\n", 3)
    times.note()
    assert log.records()[-1] == (8, 9000)


def test_another_life_goes_on_where_the_last_one_ended(log: Log) -> None:
    first = LogTimes(str(log.path))
    log.write("one\n", 2)
    first.note()
    first.close()
    log.write("two\n", 4)
    LogTimes(str(log.path)).note()
    assert log.records() == [(0, 1000), (4, 2000), (8, 4000)]


def test_a_long_log_is_cut_and_its_writer_goes_on(log: Log) -> None:
    times = LogTimes(str(log.path), max_bytes=20)
    log.write("012345\n789\nab\n", 2)
    times.note()
    older = Path(older_path(str(log.path)))
    assert older.read_text() == "789\nab\n"
    assert log.path.read_text() == ""
    assert log.records(older) == [(0, 1000), (14, 2000)]

    log.write("more\n", 4_000_000_000)
    times.note()
    assert log.path.read_text() == "more\n"
    assert log.records()[0][0] == 14
    assert log.records()[-1] == (19, 4_000_000_000_000)


def test_what_somebody_emptied_starts_behind_what_was(log: Log) -> None:
    times = LogTimes(str(log.path))
    log.write("one\n", 2)
    times.note()
    os.truncate(log.path, 0)
    log.write("x\n", 4)
    times.note()
    assert log.records() == [(4, 4000), (6, 4000)]


def test_no_times_are_no_ends(tmp_path: Path) -> None:
    assert read_ends(str(tmp_path / "none.log")) is None
    (tmp_path / "torn.log.times").write_bytes(b"123")
    assert read_ends(str(tmp_path / "torn.log")) is None


def test_a_log_is_opened_though_its_empty_directory_was_just_removed(tmp_path: Path) -> None:
    path = tmp_path / "endpoints" / "e" / "AllTraffic" / "i-1.log"
    for text in (b"one\n", b"two\n"):
        log = open_to_append(str(path))
        os.write(log, text)
        os.close(log)
    assert path.read_bytes() == b"one\ntwo\n"
