"""Texts for people."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from clary.cli.demo import percentile, pictures
from clary.cli.endpoints import phase_of
from clary.cli.invoking import guess_content_type
from clary.cli.output import Steps, ago, print_table, size_text

NOW = datetime(2026, 3, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7300, "2 h"), (200000, "2 d"), (-5, "0 s")],
)
def test_times_are_given_in_one_unit(seconds: int, text: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 KB"), (25_000_000, "25 MB"), (3e9, "3.0 GB")],
)
def test_sizes_are_short(count: float, text: str) -> None:
    assert size_text(count) == text


def test_steps_print_one_line_each_without_a_terminal() -> None:
    out = io.StringIO()
    with Steps(Console(file=out)) as steps:
        steps.begin("packing")
        steps.detail("3 files")
        steps.begin("loading")
        steps.begin("loading")
    lines = out.getvalue().splitlines()
    assert [line.split()[:2] for line in lines] == [["✓", "packing"], ["✓", "loading"]]
    assert lines[0].endswith("3 files")


def test_the_step_that_raised_is_marked() -> None:
    out = io.StringIO()
    steps = Steps(Console(file=out))
    steps.begin("packing")
    steps.begin("loading")
    steps.__exit__(ValueError)
    assert [line[0] for line in out.getvalue().splitlines()] == ["✓", "✗"]


def test_tables_are_aligned_and_hold_any_text() -> None:
    out = io.StringIO()
    print_table(
        ("NAME", "STATUS"), [("a", "[red]x"), ("long-name", "InService")], Console(file=out)
    )
    assert [line.split() for line in out.getvalue().splitlines()] == [
        ["NAME", "STATUS"],
        ["a", "[red]x"],
        ["long-name", "InService"],
    ]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ("[1]", "application/json"),
        ("-", "application/json"),
        ("@rows.CSV", "text/csv"),
        ("@x.npy", "application/x-npy"),
        ("@x.unknown", "application/json"),
    ],
)
def test_the_content_type_follows_the_file(data: str, kind: str) -> None:
    assert guess_content_type(data) == kind


@pytest.mark.parametrize(
    ("phases", "shown"),
    [
        ([], "starting"),
        (["loading", "environment"], "environment"),
        (["healthy", "loading"], "loading"),
        (["healthy"], "healthy"),
        (["something new"], "starting"),
    ],
)
def test_the_slowest_instance_is_the_phase(phases: list[str], shown: str) -> None:
    instances = [{"phase": None, "state": phase} for phase in phases]
    assert phase_of({"instances": instances})[0] == shown


def test_pictures_stand_side_by_side() -> None:
    blank, full = [0.0] * 64, [16.0] * 64
    assert pictures([blank, full], " #") == [" " * 16 + "  " + "#" * 16] * 8


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.9, 0.99, 1)] == [50, 90, 99, 100]
    assert percentile([7.0], 0.5) == 7.0
