"""What a run finds out, as values: rows of measurements, and targets met or missed."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load import Load, Request, median, run_wrk, spread

NOISE = 0.10
"""A difference to the target of less than this share says nothing where there was one round."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often to measure."""

    rounds: int = 5
    seconds: float = 2.0
    deployments: int = 7
    starts: int = 5
    endpoints: int = 200
    upload_mb: int = 1000
    is_quick: bool = False


QUICK = Plan(
    rounds=1, seconds=1.0, deployments=3, starts=2, endpoints=10, upload_mb=200, is_quick=True
)


@dataclass(frozen=True, slots=True)
class LoadRow:
    """One contender under load."""

    contender: str
    connections: int
    rounds: tuple[Load, ...]

    @property
    def load(self) -> Load:
        return median(self.rounds)

    @property
    def spread(self) -> float:
        return spread(self.rounds)


@dataclass(frozen=True, slots=True)
class ValueRow:
    """One measurement of another kind."""

    what: str
    value: float
    unit: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One target, and what was measured for it."""

    what: str
    measured: float | tuple[float, ...]
    """One value, or one of each round; the median counts."""
    target: float
    unit: str = ""
    at_most: bool = False
    """Whether the target is an upper bound."""

    @property
    def rounds(self) -> tuple[float, ...]:
        return self.measured if isinstance(self.measured, tuple) else (self.measured,)

    @property
    def value(self) -> float:
        return statistics.median(self.rounds)

    @property
    def is_met(self) -> bool:
        return self.value <= self.target if self.at_most else self.value >= self.target

    @property
    def is_close(self) -> bool:
        """Whether another run might say the opposite, as some of the rounds do."""
        if len(self.rounds) > 1:
            return min(self.rounds) < self.target < max(self.rounds)
        return abs(self.value - self.target) <= NOISE * self.target


@dataclass(slots=True)
class Report:
    """What one group of benchmarks found out."""

    title: str
    loads: list[LoadRow] = field(default_factory=list)
    values: list[ValueRow] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failure: str = ""
    """Why there are no measurements."""
    at: str = ""
    """When it was measured, if later than the others."""

    def find(self, contender: str, connections: int = 64) -> LoadRow:
        """Return the row of one contender."""
        for row in self.loads:
            if (row.contender, row.connections) == (contender, connections):
                return row
        raise KeyError((contender, connections))


@dataclass(frozen=True, slots=True)
class Bench:
    """What a group of benchmarks works with."""

    plan: Plan
    directory: Path
    """A temporary directory of the group's own."""

    def interleave(
        self,
        contenders: Mapping[str, Request | Callable[[], Request]],
        *runs: tuple[str, int],
        seconds: float | None = None,
    ) -> list[LoadRow]:
        """Load all contenders in turn, round after round, each round in another order.

        Args:
            contenders: What each is sent; or what makes it, anew before each run, since a
                signature is good for a few minutes only.
            runs: Contenders and the connections of wrk to load each with.
            seconds: For each run; by default the plan's.
        """
        rounds: dict[tuple[str, int], list[Load]] = {run: [] for run in runs}

        def load(run: tuple[str, int], seconds: float) -> Load:
            name, connections = run
            request = contenders[name]
            request = request if isinstance(request, Request) else request()
            return run_wrk(request, connections=connections, seconds=seconds)

        for run in runs:
            load(run, 1)  # warm up
        for number in range(self.plan.rounds):
            shift = number * len(runs) // self.plan.rounds
            for run in runs[shift:] + runs[:shift]:
                result = load(run, seconds or self.plan.seconds)
                rounds[run].append(result)
                print(
                    f"    {run[0]}, {run[1]} connections: {result.requests_per_s:,.0f}/s, "
                    f"p50 {result.p50_ms:.2f} ms, p99 {result.p99_ms:.2f} ms"
                    + (f", {result.errors} ERRORS" if result.errors else ""),
                    flush=True,
                )
        return [LoadRow(*run, tuple(loads)) for run, loads in rounds.items()]


def ratios(numerator: LoadRow, denominator: LoadRow) -> tuple[float, ...]:
    """Return how many times the requests/s of another, round by round.

    What else the machine does changes from minute to minute: two runs of one round are seconds
    apart, so that it weighs on both.
    """
    return tuple(
        mine.requests_per_s / theirs.requests_per_s
        for mine, theirs in zip(numerator.rounds, denominator.rounds, strict=True)
    )


def best(rows: Sequence[LoadRow]) -> LoadRow:
    """Return the one with the most requests/s."""
    return max(rows, key=lambda row: row.load.requests_per_s)
