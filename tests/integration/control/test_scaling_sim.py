"""The simulator plays its days with the real policy code."""

import subprocess
import sys

from pages import ROOT


def test_the_simulated_days_end_without_a_queue_and_within_bounds():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling_sim", "--no-plot", "--maximum", "15"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    head, _, *rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()]
    days = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert list(days) == ["diurnal", "spike", "flash crowd"]
    for day in days.values():
        assert 1 < int(day["most instances"]) <= 15
        assert int(day["minutes with a queue"]) < 60
        assert 0 < int(day["changes"]) < 60
