"""Is the alarm on? From data points and a threshold to a state: pure.

The points of a range that is a little longer than N are given, oldest first, with None where there
is none. What CloudWatch does with them (contract: autoscaling-metrics.md 8):

1. With N real points or more, the newest N of them decide: ALARM when M are breaching. How missing
   data is treated does not matter then.
2. With fewer, the missing ones among N are filled as the alarm says: as breaching, or as not.
3. Where it says ``missing`` or ``ignore``, nothing is filled. The real points decide when M of them
   are breaching, or when one of them is not. When none is there, ``missing`` knows nothing
   (INSUFFICIENT_DATA) and ``ignore`` keeps the state. And when all that are there are breaching,
   but fewer than M, ``missing`` says ALARM once the oldest is M periods old (it waited as long as
   the alarm asks for, and nothing spoke against it); earlier, the alarm stays what it was, for the
   points to come may say otherwise. ``ignore`` keeps the state in both cases.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from clary.resources.alarm import AlarmValue

Points = Sequence[float | None]

EXTRA_PERIODS = 2
"""How many periods more than N are read. AWS reads some more and does not say how many; its example
has 5 for N = 3."""


class MissingData(StrEnum):
    """What a missing point counts as."""

    MISSING = "missing"
    IGNORE = "ignore"
    BREACHING = "breaching"
    NOT_BREACHING = "notBreaching"


COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}
"""The comparisons with a static threshold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRule:
    """When a metric alarm is on."""

    comparison: str
    """Key of ``COMPARISONS``."""

    threshold: float
    periods: int
    """N: how many points are looked at."""

    datapoints: int
    """M: how many of them must be breaching."""

    missing: MissingData = MissingData.MISSING

    @property
    def range(self) -> int:
        """How many points to read."""
        return self.periods + EXTRA_PERIODS

    def is_breaching(self, value: float) -> bool:
        """Whether a value is on the wrong side of the threshold."""
        return COMPARISONS[self.comparison](value, self.threshold)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the points say."""

    value: AlarmValue
    evaluated: tuple[int, ...] = ()
    """Indices of the real points that decided, oldest first."""

    filled: int = 0
    """How many missing points were filled in."""

    is_kept: bool = False
    """Whether the points decide nothing, so that the alarm stays what it was."""


def judge(rule: AlarmRule, points: Points, current: AlarmValue) -> Verdict:
    """Return what an alarm should be.

    Args:
        rule: The alarm.
        points: ``rule.range`` of them, oldest first; None: missing.
        current: The state it is in.
    """
    real = [index for index, value in enumerate(points) if value is not None]
    used = tuple(real[-rule.periods :])
    breaching = [index for index in used if rule.is_breaching(_value(points, index))]
    if len(breaching) >= rule.datapoints:
        return Verdict(AlarmValue.ALARM, used)
    if len(used) == rule.periods:
        return Verdict(AlarmValue.OK, used)
    filled = rule.periods - len(used)
    if rule.missing is MissingData.NOT_BREACHING:
        return Verdict(AlarmValue.OK, used, filled)
    if rule.missing is MissingData.BREACHING:
        is_on = len(breaching) + filled >= rule.datapoints
        return Verdict(AlarmValue.ALARM if is_on else AlarmValue.OK, used, filled)
    if len(breaching) < len(used):
        return Verdict(AlarmValue.OK, used)
    if rule.missing is MissingData.MISSING:
        if not used:
            return Verdict(AlarmValue.INSUFFICIENT_DATA, (), filled)
        if len(points) - used[0] >= rule.datapoints:
            return Verdict(AlarmValue.ALARM, used)
    return Verdict(current, used, is_kept=True)


def _value(points: Points, index: int) -> float:
    value = points[index]
    assert value is not None, "only real points are looked at"
    return value


def is_certain(comparison: str, statistic: str, namespace: str) -> bool:
    """Return whether a breach in an unfinished period will still be one at its end.

    A maximum, and a count, can only rise; a minimum can only fall. So a period that is already
    breaching need not be waited for. A sum only rises where no value is negative, which is known of
    the metrics of this server's own namespaces alone.
    """
    if comparison.startswith("GreaterThan"):
        is_ours = namespace.lower().startswith(("aws/", "/aws/"))
        return statistic in ("Maximum", "SampleCount") or (statistic == "Sum" and is_ours)
    return statistic == "Minimum"


def samples_needed(percentile: float) -> float:
    """Return how many samples make a percentile significant, as AWS has it.

    Args:
        percentile: Between 0 and 1.
    """
    share = 1 - percentile if percentile >= 0.5 else percentile
    return round(10 / share, 6) if share > 0 else float("inf")
