"""Puts points into the periods that were asked for. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from clary.metrics.statistics import ZERO, StatisticSet


@dataclass(frozen=True, slots=True)
class Presence:
    """A time in which a series is 0 wherever it has no point; seconds since 1970."""

    since: int
    until: int | None
    """None: it goes on."""
    step_s: int
    """Length of the periods of which each has a value."""


def bin_points(
    points: Iterable[tuple[int, int, StatisticSet]],
    presence: Sequence[Presence],
    first: int,
    last: int,
    period_s: int,
    *,
    origin: int,
    now: int,
) -> list[tuple[int, StatisticSet]]:
    """Return the periods that have values, with their begin, ascending.

    Args:
        points: Begin, length and values of each, of one or several series.
        presence: When the same series were 0 where they have no point.
        first: Begin of the first period that counts.
        last: Periods have to begin before it.
        period_s: Their length.
        origin: Periods begin at multiples of their length from here.
        now: A time in which nothing happened is known to be one once it is over.
    """
    bins: dict[int, StatisticSet] = {}
    covered: dict[int, float] = {}
    """How many steps of presence have real values, by period."""
    step_s = presence[0].step_s if presence else 60
    for at, resolution_s, values in points:
        begin = at - (at - origin) % period_s
        if not first <= begin < last:
            continue
        known = bins.get(begin)
        bins[begin] = values if known is None else known + values
        covered[begin] = covered.get(begin, 0) + max(resolution_s / step_s, 1)
    for each in presence:
        _add_zeros(bins, covered, each, first, last, period_s, origin, now)
    return sorted(bins.items())


def _add_zeros(
    bins: dict[int, StatisticSet],
    covered: dict[int, float],
    presence: Presence,
    first: int,
    last: int,
    period_s: int,
    origin: int,
    now: int,
) -> None:
    step_s = presence.step_s
    over = now - now % step_s
    until = over if presence.until is None else min(presence.until, over)
    start = max(presence.since, first)
    begin = start - (start - origin) % period_s
    while begin < min(until, last):
        steps = (min(until, begin + period_s) - max(presence.since, begin)) / step_s
        if period_s < step_s and begin % step_s >= period_s:
            steps = 0  # the value of a step is at its begin
        missing = max(steps, 1 if steps > 0 else 0) - covered.get(begin, 0)
        if begin >= first and missing > 0:
            zeros = StatisticSet(float(round(missing)) or 1.0, 0.0, 0.0, 0.0)
            bins[begin] = bins[begin] + zeros if begin in bins else zeros
        begin += period_s


__all__ = ["ZERO", "Presence", "bin_points"]
