"""What is known of the values of one period, and the statistics that can be read from it.

CloudWatch's names: the five simple ones, percentiles ``p99``, and the trimmed family: ``tm``
(mean), ``wm`` (winsorized mean), ``tc`` (count), ``ts`` (sum), each as ``tm99``, ``TM(10%:90%)``
or ``TM(10:200)``; ``PR(100:2000)``, and ``IQM``, which is ``TM(25%:75%)``.
"""

import math
import re
from dataclasses import dataclass
from typing import Literal

from clary.errors import InvalidRequest
from clary.metrics.sketch import Buckets, bucket_of, merge, quantile, value_of

SIMPLE = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")

Kind = Literal["p", "tm", "wm", "tc", "ts", "pr"]

_SHORT = re.compile(r"(p|tm|wm|tc|ts)(\d{1,2}(?:\.\d{1,10})?|100)", re.IGNORECASE)
_LONG = re.compile(
    r"(TM|WM|TC|TS|PR)\(\s*(\d+(?:\.\d{1,10})?)?(%?)\s*:\s*(\d+(?:\.\d{1,10})?)?(%?)\s*\)",
    re.IGNORECASE,
)


@dataclass(slots=True)
class StatisticSet:
    """The values of one period of one metric, summed up."""

    count: float
    sum: float
    minimum: float
    maximum: float
    buckets: Buckets | None = None
    """Their distribution; None where it is not known, so that there are no percentiles."""

    @classmethod
    def of(cls, value: float, count: float = 1.0, *, sketched: bool = True) -> "StatisticSet":
        """Return the statistics of a value that came ``count`` times."""
        buckets = {bucket_of(value): count} if sketched and value >= 0 else None
        return cls(count, value * count, value, value, buckets)

    @property
    def distribution(self) -> Buckets | None:
        """The distribution, which is known as well when all values are the same."""
        if self.buckets is None and self.minimum == self.maximum >= 0:
            return {bucket_of(self.minimum): self.count}
        return self.buckets

    def __add__(self, other: "StatisticSet") -> "StatisticSet":
        if not other.count:
            return self
        if not self.count:
            return other
        one, two = self.distribution, other.distribution
        return StatisticSet(
            self.count + other.count,
            self.sum + other.sum,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            None if one is None or two is None else merge(one, two),
        )


ZERO = StatisticSet(1.0, 0.0, 0.0, 0.0)
"""One value of 0: what a metric has for a time in which nothing happened."""


@dataclass(frozen=True, slots=True)
class Range:
    """A statistic over a part of the distribution."""

    kind: Kind
    low: float
    high: float
    is_percent: bool


def parse_statistic(name: str) -> str | Range:
    """Return one of ``SIMPLE``, or what a name of the extended kind means.

    Raises:
        InvalidRequest: There is no such statistic.
    """
    if name in SIMPLE:
        return name
    if name.upper() == "IQM":
        return Range("tm", 25, 75, True)
    found = _SHORT.fullmatch(name)
    if found:
        return Range(_kind(found[1]), 0, float(found[2]), True)
    found = _LONG.fullmatch(name)
    if found and (found[2] or found[4]):
        kind = _kind(found[1])
        marks = {mark for number, mark in ((found[2], found[3]), (found[4], found[5])) if number}
        if len(marks) == 1 and not (kind == "pr" and marks == {"%"}):
            is_percent = marks == {"%"}
            low = float(found[2] or 0)
            high = float(found[4]) if found[4] else (100 if is_percent else math.inf)
            if low <= high and (not is_percent or high <= 100):
                return Range(kind, low, high, is_percent)
    raise InvalidRequest(f"The value {name} for parameter Stat is not a valid statistic.")


def read_statistic(values: StatisticSet, statistic: str | Range) -> float | None:
    """Return a statistic; None where the values do not have it.

    Percentiles need a distribution: values of which only a statistic set was given have none.
    """
    if isinstance(statistic, str):
        return {
            "SampleCount": values.count,
            "Sum": values.sum,
            "Minimum": values.minimum,
            "Maximum": values.maximum,
            "Average": values.sum / values.count,
        }[statistic]
    buckets = values.distribution
    if not buckets:
        return None
    if statistic.kind == "p":
        return _within(quantile(buckets, statistic.high / 100), values)
    parts = _trimmed(values, buckets, statistic)
    return _summed_up(statistic.kind, parts, values)


def _kind(text: str) -> Kind:
    kinds: dict[str, Kind] = {
        "p": "p", "tm": "tm", "wm": "wm", "tc": "tc", "ts": "ts", "pr": "pr"
    }  # fmt: skip
    return kinds[text.lower()]


def _within(value: float, values: StatisticSet) -> float:
    """Return a bucket's value, kept between the least and the largest that there really were."""
    return min(max(value, values.minimum), values.maximum)


@dataclass(frozen=True, slots=True)
class _Trimmed:
    inside: list[tuple[float, float]]
    """Values and their counts, ascending."""
    below: float
    """How many values were cut off at the lower end."""
    above: float


def _trimmed(values: StatisticSet, buckets: Buckets, wanted: Range) -> _Trimmed:
    known = [(_within(value_of(bucket), values), n) for bucket, n in sorted(buckets.items())]
    if wanted.is_percent:
        low, high = (values.count * percent / 100 for percent in (wanted.low, wanted.high))
        inside = []
        rank = 0.0
        for value, count in known:
            part = min(rank + count, high) - max(rank, low)
            if part > 0:
                inside.append((value, part))
            rank += count
        return _Trimmed(inside, low, values.count - high)
    # The lower bound is out, the upper one in, but 0 is in where the range begins with it.
    low = wanted.low or -1.0
    return _Trimmed(
        [(value, n) for value, n in known if low < value <= wanted.high],
        sum(n for value, n in known if value <= low),
        sum(n for value, n in known if value > wanted.high),
    )


def _summed_up(kind: Kind, parts: _Trimmed, values: StatisticSet) -> float | None:
    count = sum(n for _, n in parts.inside)
    total = sum(value * n for value, n in parts.inside)
    if kind == "tc":
        return count
    if kind == "ts":
        return total
    if kind == "pr":
        return 100 * count / values.count
    if not count:
        return None
    if kind == "wm":
        # What is outside counts as the nearest value inside.
        total += parts.inside[0][0] * parts.below + parts.inside[-1][0] * parts.above
        count += parts.below + parts.above
    return total / count
