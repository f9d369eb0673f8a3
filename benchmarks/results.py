"""What a run finds out, as values: rows of measurements, and targets met or missed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load import Load, Request, median, run_wrk, spread

NOISE = 0.10
"""A difference to the target of less than this share says nothing on a shared machine."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often to measure."""

    rounds: int = 3
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
    measured: float
    target: float
    unit: str = ""
    at_most: bool = False
    """Whether the target is an upper bound."""

    @property
    def is_met(self) -> bool:
        return self.measured <= self.target if self.at_most else self.measured >= self.target

    @property
    def is_close(self) -> bool:
        """Whether another run might say the opposite."""
        return abs(self.measured - self.target) <= NOISE * self.target


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

    def find(self, contender: str, connections: int = 64) -> Load:
        """Return the medians of one contender."""
        for row in self.loads:
            if (row.contender, row.connections) == (contender, connections):
                return row.load
        raise KeyError((contender, connections))


@dataclass(frozen=True, slots=True)
class Bench:
    """What a group of benchmarks works with."""

    plan: Plan
    directory: Path
    """A temporary directory of the group's own."""

    def interleave(
        self,
        contenders: Mapping[str, Callable[[], Request]],
        connections: int,
        seconds: float | None = None,
    ) -> list[LoadRow]:
        """Load all contenders in turn, round after round, each round in another order.

        Args:
            contenders: What each is sent, made anew before each run: a signature is good for a
                few minutes only.
            connections: Of wrk.
            seconds: For each run; by default the plan's.
        """
        seconds = seconds or self.plan.seconds
        rounds: dict[str, list[Load]] = {name: [] for name in contenders}
        for make in contenders.values():
            run_wrk(make(), connections=connections, seconds=1)  # warm up
        names = list(contenders)
        for number in range(self.plan.rounds):
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                load = run_wrk(contenders[name](), connections=connections, seconds=seconds)
                rounds[name].append(load)
                print(
                    f"    {name}, {connections} connections: {load.requests_per_s:,.0f}/s, "
                    f"p50 {load.p50_ms:.2f} ms, p99 {load.p99_ms:.2f} ms"
                    + (f", {load.errors} ERRORS" if load.errors else ""),
                    flush=True,
                )
        return [LoadRow(name, connections, tuple(loads)) for name, loads in rounds.items()]


def ratio(numerator: Load, denominator: Load) -> float:
    """Return how many times the requests/s of another."""
    return numerator.requests_per_s / denominator.requests_per_s


def best(loads: Sequence[Load]) -> Load:
    """Return the one with the most requests/s."""
    return max(loads, key=lambda load: load.requests_per_s)
