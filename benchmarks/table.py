"""Writes what was measured: one page for people, one file for programs."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.load import Load
from benchmarks.results import NOISE, Check, LoadRow, Plan, Report, ValueRow

BUSY = 0.25
"""Load average per core before a run, from which on the machine was not idle."""
BUSY_WARNING = (
    "**The machine was busy with other work when this run began: medians are lower, and rounds "
    "wider apart, than on an idle one.**"
)

PAGE = "RESULTS.md"
FILE = "results.json"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and when a run took place."""

    at: str
    python: str
    kernel: str
    cpu: str
    cores: int
    memory_gb: float
    load_before: float
    """Load average over one minute when the run began: what else was running."""

    @property
    def text(self) -> str:
        return (
            f"{self.cores} cores ({self.cpu}), {self.memory_gb} GB, Linux {self.kernel}, load "
            f"average before the run {self.load_before}"
        )


def this_machine() -> Machine:
    """Describe the machine, now."""
    return Machine(
        at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        python=platform.python_version(),
        kernel=platform.release(),
        cpu=_cpu(),
        cores=os.cpu_count() or 0,
        memory_gb=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        load_before=round(os.getloadavg()[0], 2),
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def page(
    reports: Sequence[Report],
    plan: Plan,
    machine: Machine,
    versions: Mapping[str, str],
    minutes: float,
) -> str:
    """Return the results as Markdown."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Compare rows with each other: all numbers are of one machine and "
        "one run, but for those that say when they were measured.",
        "",
        f"{machine.at}, {minutes:.0f} minutes. {machine.text}.",
        f"Python {machine.python}, " + ", ".join(f"{k} {v}" for k, v in versions.items()) + ".",
        "",
        f"Load rows are medians of {plan.rounds} interleaved rounds of {plan.seconds:g} s by one "
        "thread of wrk on the same machine. *Spread* is the distance of best and worst round, as a "
        "share of the median: differences smaller than it are noise. A ratio is the median of the "
        "ratios of the single rounds, whose runs are seconds apart. *Close* are targets that some "
        "rounds met and others missed, and single measurements within "
        f"{NOISE:.0%}: another run may say the opposite.",
    ]
    if machine.load_before > BUSY * machine.cores:
        lines += ["", BUSY_WARNING]
    if plan.is_quick:
        lines += ["", "**A quick run: too short for conclusions.**"]
    lines += ["", *_checks([check for report in reports for check in report.checks])]
    for report in reports:
        lines += ["", f"## {report.title}"]
        if report.at:
            lines += ["", f"Measured later, on {report.at}."]
        lines += _report(report)
    return "\n".join(lines) + "\n"


def _checks(checks: Sequence[Check]) -> list[str]:
    met = sum(check.is_met for check in checks)
    lines = [
        f"## Targets: {met} of {len(checks)} met",
        "",
        "| target | measured | rounds | asked for | |",
        "|---|--:|--:|--:|---|",
    ]
    for check in checks:
        verdict = ("met" if check.is_met else "**missed**") + (", close" if check.is_close else "")
        bound = "≤" if check.at_most else "≥"
        values = check.rounds
        rounds = f"{number(min(values))} to {number(max(values))}" if len(values) > 1 else ""
        lines.append(
            f"| {check.what} | {number(check.value)} {check.unit} | {rounds} "
            f"| {bound} {check.target:g} {check.unit} | {verdict} |"
        )
    return lines


def _report(report: Report) -> list[str]:
    lines = []
    if report.failure:
        lines += ["", "**This group failed; it has no numbers:**", "", "```"]
        lines += [*report.failure.splitlines(), "```"]
    if report.loads:
        lines += [
            "",
            "| contender | connections | req/s | p50 ms | p99 ms | spread | errors |",
            "|---|--:|--:|--:|--:|--:|--:|",
        ]
        for row in report.loads:
            load = row.load
            lines.append(
                f"| {row.contender} | {row.connections} | {load.requests_per_s:,.0f} "
                f"| {load.p50_ms:.2f} | {load.p99_ms:.2f} | {row.spread:.0%} | {load.errors} |"
            )
    if report.values:
        lines += ["", "| what | measured | |", "|---|--:|---|"]
        lines += [
            f"| {row.what} | {number(row.value)} {row.unit} | {row.remark} |"
            for row in report.values
        ]
    for note in report.notes:
        lines += ["", note]
    return lines


def number(value: float) -> str:
    """Return three digits that matter."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


@dataclass(frozen=True, slots=True)
class Results:
    """What a run found out, and where it ran."""

    machine: Machine
    versions: dict[str, str]
    plan: Plan
    minutes: float
    reports: list[Report]

    def merge(self, reports: Sequence[Report], at: str) -> None:
        """Put what was measured later in the place of what it measures anew, or at the end."""
        for report in reports:
            report.at = at
            titles = [known.title for known in self.reports]
            if report.title in titles:
                self.reports[titles.index(report.title)] = report
            else:
                self.reports.append(report)


def read(directory: Path) -> Results:
    """Return what ``write`` wrote."""
    data = json.loads((directory / FILE).read_text())
    return Results(
        Machine(**data["machine"]),
        data["versions"],
        Plan(**data["plan"]),
        data["minutes"],
        [_read_report(group) for group in data["groups"]],
    )


def _read_report(data: dict[str, Any]) -> Report:
    loads = [
        LoadRow(row["contender"], row["connections"], tuple(Load(**one) for one in row["rounds"]))
        for row in data["loads"]
    ]
    checks = []
    for check in data["checks"]:
        measured = check["measured"]
        is_one = not isinstance(measured, list)
        checks.append(Check(**{**check, "measured": measured if is_one else tuple(measured)}))
    values = [ValueRow(**value) for value in data["values"]]
    return Report(**{**data, "loads": loads, "values": values, "checks": checks})


def write(
    directory: Path,
    reports: Sequence[Report],
    plan: Plan,
    machine: Machine,
    versions: Mapping[str, str],
    minutes: float,
) -> str:
    """Write page and file; return the page."""
    text = page(reports, plan, machine, versions, minutes)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / PAGE).write_text(text)
    data = {
        "machine": asdict(machine),
        "versions": dict(versions),
        "plan": asdict(plan),
        "minutes": round(minutes, 1),
        "groups": [asdict(report) for report in reports],
    }
    (directory / FILE).write_text(json.dumps(data, indent=1) + "\n")
    return text
