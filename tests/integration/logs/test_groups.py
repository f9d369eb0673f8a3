"""Log groups over a real database and real files: what a sweep leaves."""

import asyncio
import fcntl
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from builders import NAMESPACE
from clary.log_times import LogTimes
from clary.logs.groups import LogGroups
from clary.logs.patterns import parse
from clary.settings import LogSettings
from clary.store import Store

GROUP = "/aws/sagemaker/Endpoints/digits"
DAY_S = 86_400


class WallClock:
    """The machine's time, moved on by hand."""

    ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def monotonic(self) -> float:
        return time.monotonic()


class Setup:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = WallClock()
        self.store = Store.open(directory / "state.sqlite", NAMESPACE, self.clock)
        self.loop = asyncio.Runner()

    def groups(self, **settings: int) -> LogGroups:
        return LogGroups(
            self.store.logs, self.directory / "logs", LogSettings(**settings), self.clock
        )

    def file(self, stream: str, text: str, age_s: float = 0) -> Path:
        path = self.directory / "logs/endpoints/digits" / f"{stream}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (time.time() - age_s,) * 2)
        LogTimes(str(path)).note()
        return path

    def streams(self, groups: LogGroups) -> list[str]:
        return [stream.name for stream in self.loop.run(groups.streams(GROUP))]


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    made = Setup(tmp_path)
    yield made
    made.store.close()
    made.loop.close()


def test_a_sweep_brings_the_group_of_written_files(setup: Setup) -> None:
    setup.file("AllTraffic/i-1", "hello\n")
    groups = setup.groups()
    setup.loop.run(groups.sweep())
    assert setup.streams(groups) == ["AllTraffic/i-1"]


def test_old_files_go_by_the_groups_policy_or_the_setting(setup: Setup) -> None:
    old = setup.file("AllTraffic/i-1", "old\n", age_s=5 * DAY_S)
    setup.file("AllTraffic/i-2", "new\n", age_s=100)
    setup.loop.run(setup.groups().sweep())
    assert old.exists()

    setup.loop.run(setup.groups(retention_days=10).sweep())
    assert old.exists()
    setup.loop.run(setup.groups().records.change_group(GROUP, retention_days=3))
    groups = setup.groups(retention_days=10)
    setup.loop.run(groups.sweep())
    assert setup.streams(groups) == ["AllTraffic/i-2"]
    assert list(old.parent.glob("i-1*")) == []


def test_what_is_too_old_is_not_shown_even_before_a_sweep(setup: Setup) -> None:
    path = setup.file("AllTraffic/i-1", "old\n", age_s=5 * DAY_S)
    with path.open("a") as file:
        file.write("new\n")
    groups = setup.groups(retention_days=3)
    times = LogTimes(str(path))
    times.note()
    setup.loop.run(groups.records.ensure_groups([GROUP]))
    piece = setup.loop.run(
        groups.read(GROUP, "AllTraffic/i-1", start_ms=None, end_ms=None, limit=9)
    )
    assert [event.message for event in piece.events] == ["new"]


def test_a_group_with_too_many_bytes_loses_its_oldest_idle_logs(setup: Setup) -> None:
    for number in range(4):
        setup.file(f"AllTraffic/i-{number}", "x" * 99 + "\n", age_s=1000 - number)
    busy = setup.directory / "logs/endpoints/digits/AllTraffic/i-0.log"
    with busy.open("ab") as writer:
        fcntl.flock(writer, fcntl.LOCK_SH)  # as an instance host does
        groups = setup.groups(max_group_bytes=250)
        setup.loop.run(groups.sweep())
        assert setup.streams(groups) == ["AllTraffic/i-0", "AllTraffic/i-3"]


def test_events_of_clients_go_by_age_and_by_size(setup: Setup) -> None:
    groups = setup.groups(max_stream_bytes=1000)
    now_ms = int(time.time() * 1000)
    events = [(now_ms - 1000 + n, f"event {n:03d} " + "x" * 64) for n in range(20)]
    setup.loop.run(groups.append("/mine", "s", events))
    setup.loop.run(groups.sweep())
    assert _messages(setup, groups) == [f"event {n:03d}" for n in (15, 16, 17, 18, 19)]

    setup.loop.run(groups.records.change_group("/mine", retention_days=1))
    setup.clock.ahead = timedelta(days=2)
    setup.loop.run(groups.sweep())
    assert _messages(setup, groups) == []
    assert setup.loop.run(groups.stored_bytes(["/mine"])) == {"/mine": 0}


def _messages(setup: Setup, groups: LogGroups) -> list[str]:
    piece = setup.loop.run(groups.read("/mine", "s", start_ms=0, end_ms=None, limit=100))
    return [event.message[:9] for event in piece.events]


def test_files_and_rows_are_searched_together_in_pages(setup: Setup) -> None:
    setup.file("AllTraffic/i-1", "file one\nfile two\n", age_s=50)
    setup.file("AllTraffic/i-2", "file three\n", age_s=30)
    groups = setup.groups()
    now_ms = int(time.time() * 1000)
    rows = [(now_ms - 1000 * age, f"row {age}") for age in (60, 40, 20)]
    setup.loop.run(groups.append(GROUP, "data-log", rows))

    found, after = [], None
    while True:
        page = setup.loop.run(
            groups.search(
                GROUP,
                names=None,
                prefix="",
                matches=parse("?file ?row"),
                start_ms=None,
                end_ms=None,
                limit=2,
                after=after,
            )
        )
        found += [event.message for event in page.events]
        after = page.next
        if after is None:
            break
    assert found == ["row 60", "file one", "file two", "row 40", "file three", "row 20"]


def test_logs_of_the_servers_own_processes_are_cut(setup: Setup) -> None:
    path = setup.directory / "logs/server/control.log"
    path.parent.mkdir(parents=True)
    with path.open("ab", buffering=0) as writer:
        writer.write(b"line\n" * 100)
        setup.loop.run(setup.groups(server_max_bytes=200).sweep())
        writer.write(b"after\n")
    assert path.read_text() == "after\n"
    assert (path.parent / "control.log.1").stat().st_size == 95


@pytest.mark.parametrize("group", ["/aws/sagemaker/Endpoints/..", "/aws/sagemaker/Endpoints/a/b"])
def test_names_lead_nowhere_else(setup: Setup, group: str) -> None:
    secret = setup.file("AllTraffic/i-1", "secret\n")
    groups = setup.groups()
    setup.loop.run(groups.records.ensure_groups([group, GROUP]))
    assert setup.loop.run(groups.streams(group)) == []
    setup.loop.run(groups.delete_group(group))
    assert secret.exists()
