"""Checks of `clary doctor`, from values to findings."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from clary.cli import doctor

NOW = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("version", "status"), [((3, 10, 9), "fail"), ((3, 11, 0), "ok"), ((3, 14, 1), "ok")]
)
def test_python_must_be_new_enough(version: tuple[int, ...], status: str) -> None:
    assert doctor.check_python(version).status == status


@pytest.mark.parametrize(
    ("free", "status"), [(10**8, "fail"), (10**9, "warn"), (10**11, "ok")], ids=str
)
def test_little_disk_is_a_warning_and_none_a_failure(free: int, status: str) -> None:
    assert doctor.check_disk(free).status == status


def test_a_data_directory_may_be_made_later(tmp_path: Path) -> None:
    assert doctor.check_data_dir(tmp_path / "a" / "b").status == "ok"


def test_a_file_in_place_of_the_data_directory_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert doctor.check_data_dir(tmp_path / "file").status == "fail"


@pytest.mark.parametrize(
    ("date", "status"),
    [
        ("Wed, 04 Mar 2026 12:00:01 GMT", "ok"),
        ("Wed, 04 Mar 2026 12:06:00 GMT", "fail"),
        ("Wed, 04 Mar 2026 11:54:00 GMT", "fail"),
        (None, "warn"),
    ],
)
def test_clocks_may_differ_as_much_as_signatures_allow(date: str | None, status: str) -> None:
    assert doctor.compare_clocks(date, NOW).status == status


def test_only_processes_without_a_supervisor_are_stale() -> None:
    commands = {
        10: "python clary-supervisor",
        11: "python clary-gateway",
        12: "python clary-worker digits/AllTraffic/i-1",
        20: "python clary-worker lost/AllTraffic/i-2",
        30: "vim notes",
    }
    parents = {10: 1, 11: 10, 12: 11, 20: 1, 30: 1}
    finding = doctor.check_processes(commands, parents)
    assert (finding.status, finding.advice) == ("warn", "kill 20")
    del commands[20]
    assert doctor.check_processes(commands, parents).status == "ok"
