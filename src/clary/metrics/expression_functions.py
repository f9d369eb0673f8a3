"""The functions of metric math. Pure.

Each takes evaluated arguments and the range of time that was asked for. ``SEARCH`` and ``METRICS``
are not here: they name metrics (``expressions.py``).
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from clary.metrics.expression_parser import ExpressionError
from clary.metrics.expression_values import TimeSeries, Value, Word, each, is_list, series_of


@dataclass(frozen=True, slots=True)
class Span:
    """The range of time that was asked for."""

    start: int
    end: int
    """In seconds since 1970, exclusive."""
    period_s: int
    """Of series that an expression makes out of nothing."""

    def moments(self, period_s: int) -> range:
        """Return the begins of all periods."""
        return range(self.start + -self.start % period_s, self.end, period_s)


Function = Callable[[Sequence[Value], Span], Value]


def call(name: str, arguments: Sequence[Value], span: Span) -> Value:
    """Apply a function.

    Raises:
        ExpressionError: There is none of that name, or its arguments are wrong.
    """
    entry = FUNCTIONS.get(name)
    if entry is None:
        raise ExpressionError(f"There is no function {name}.")
    least, most, function = entry
    if not least <= len(arguments) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise ExpressionError(f"{name} takes {wanted} arguments; it was given {len(arguments)}.")
    return function(arguments, span)


def _summary(reduce: Callable[[list[float]], float]) -> Function:
    """A function from a time series to a number, and from several to one."""

    def apply(arguments: Sequence[Value], span: Span) -> Value:
        value = arguments[0]
        if isinstance(value, float):
            return value
        if isinstance(value, TimeSeries):
            numbers = list(value.points.values())
            return float(reduce(numbers)) if numbers else math.nan
        together: dict[int, list[float]] = {}
        several = series_of(value)
        for one in several:
            for moment, number in one.points.items():
                together.setdefault(moment, []).append(number)
        points = {moment: float(reduce(together[moment])) for moment in sorted(together)}
        return TimeSeries(points, max((one.period_s for one in several), default=span.period_s))

    return apply


def _pointwise(change: Callable[[float], float]) -> Function:
    def apply(arguments: Sequence[Value], span: Span) -> Value:
        value = arguments[0]
        if isinstance(value, float):
            return _number(change, value)
        return each(value, lambda one: one.of(_changed(change, one.points)))

    return apply


def _number(change: Callable[[float], float], value: float) -> float:
    try:
        return float(change(value))
    except (ValueError, OverflowError):
        return math.nan


def _changed(change: Callable[[float], float], points: Mapping[int, float]) -> dict[int, float]:
    numbers = ((moment, _number(change, value)) for moment, value in points.items())
    return {moment: number for moment, number in numbers if math.isfinite(number)}


def _series(change: Callable[[TimeSeries, list[tuple[int, float]]], dict[int, float]]) -> Function:
    """A function from a time series to another, also for each of a list."""

    def apply(arguments: Sequence[Value], span: Span) -> Value:
        return each(arguments[0], lambda one: one.of(change(one, sorted(one.points.items()))))

    return apply


def _steps(points: list[tuple[int, float]]) -> Iterable[tuple[int, float, int]]:
    """Give moment, difference of value and of time for each point but the first."""
    for (before, old), (moment, new) in pairwise(points):
        yield moment, new - old, moment - before


def _running_sum(_series: TimeSeries, points: list[tuple[int, float]]) -> dict[int, float]:
    total = 0.0
    sums = {}
    for moment, value in points:
        total += value
        sums[moment] = total
    return sums


def _fill(arguments: Sequence[Value], span: Span) -> Value:
    value, filling = arguments
    if isinstance(filling, Word) and filling.text not in ("REPEAT", "LINEAR"):
        raise ExpressionError("FILL takes a number, a time series, REPEAT or LINEAR.")
    if is_list(filling):
        raise ExpressionError("FILL cannot fill with an array.")
    return each(value, lambda one: one.of(_filled(one, filling, span)))


def _filled(series: TimeSeries, filling: Value, span: Span) -> dict[int, float]:
    known = series.points
    present = sorted(known)
    filled: dict[int, float] = {}
    position = 0
    for moment in sorted({*span.moments(series.period_s), *known}):
        while position < len(present) and present[position] < moment:
            position += 1
        before = present[position - 1] if position else None
        after = present[position] if position < len(present) else None
        value: float | None
        if moment in known:
            value = known[moment]
        elif isinstance(filling, float):
            value = filling
        elif isinstance(filling, TimeSeries):
            value = filling.points.get(moment)
        elif before is None:
            value = None
        elif isinstance(filling, Word) and filling.text == "REPEAT":
            value = known[before]
        elif after is None:
            value = None
        else:
            share = (moment - before) / (after - before)
            value = known[before] + (known[after] - known[before]) * share
        if value is not None:
            filled[moment] = value
    return filled


def _if(arguments: Sequence[Value], span: Span) -> Value:
    condition, then = arguments[0], arguments[1]
    otherwise = arguments[2] if len(arguments) == 3 else None
    if isinstance(condition, float):
        if condition and not math.isnan(condition):
            return then
        if otherwise is None:
            raise ExpressionError("IF with a number as its condition needs three arguments.")
        return otherwise
    if is_list(condition) or is_list(then) or (otherwise is not None and is_list(otherwise)):
        raise ExpressionError("IF cannot be applied to an array.")
    (test,) = series_of(condition)
    points = {}
    for moment, truth in test.points.items():
        value = _value_at(then if truth else otherwise, moment)
        if value is not None:
            points[moment] = value
    label = then.label if isinstance(then, TimeSeries) else test.label
    return TimeSeries(points, test.period_s, label)


def _value_at(value: Value | None, moment: int) -> float | None:
    if value is None or isinstance(value, float):
        return value
    if isinstance(value, TimeSeries):
        return value.points.get(moment)
    raise ExpressionError("IF chooses between numbers and time series.")


def _time_series(arguments: Sequence[Value], span: Span) -> Value:
    number = arguments[0]
    if not isinstance(number, float):
        raise ExpressionError("TIME_SERIES takes a number.")
    return TimeSeries(dict.fromkeys(span.moments(span.period_s), number), span.period_s)


def _period(arguments: Sequence[Value], span: Span) -> Value:
    if not isinstance(arguments[0], TimeSeries):
        raise ExpressionError("PERIOD takes one time series.")
    return float(arguments[0].period_s)


def _pick(place: int) -> Function:
    def apply(arguments: Sequence[Value], span: Span) -> Value:
        if not is_list(arguments[0]):
            raise ExpressionError("FIRST and LAST take an array.")
        several = series_of(arguments[0])
        return several[place] if several else []

    return apply


def _remove_empty(arguments: Sequence[Value], span: Span) -> Value:
    return [one for one in series_of(arguments[0]) if one.points]


def _slice(arguments: Sequence[Value], span: Span) -> Value:
    several = series_of(arguments[0])
    bounds = [int(each) for each in arguments[1:] if isinstance(each, float)]
    if len(bounds) != len(arguments) - 1 or not is_list(arguments[0]):
        raise ExpressionError("SLICE takes an array and one or two numbers.")
    if len(bounds) == 1:
        return several[bounds[0]] if -len(several) <= bounds[0] < len(several) else []
    return several[bounds[0] : bounds[1]]


_ORDERS: Mapping[str, Callable[[list[float]], float]] = {
    "AVG": statistics.fmean,
    "SUM": math.fsum,
    "MAX": max,
    "MIN": min,
    "STDDEV": statistics.pstdev,
}


def _sort(arguments: Sequence[Value], span: Span) -> Value:
    by, direction = (each.text if isinstance(each, Word) else "" for each in arguments[1:3])
    if by not in _ORDERS or direction not in ("ASC", "DESC") or not is_list(arguments[0]):
        raise ExpressionError("SORT takes an array, a function such as AVG, and ASC or DESC.")
    several = [one for one in series_of(arguments[0]) if one.points]
    several.sort(
        key=lambda one: _ORDERS[by](list(one.points.values())), reverse=direction == "DESC"
    )
    limit = arguments[3] if len(arguments) == 4 else None
    return several[: int(limit)] if isinstance(limit, float) else several


def _of_time(read: Callable[[datetime], float]) -> Function:
    """A function of the moments, not of the values."""
    return _series(
        lambda _, points: {t: float(read(datetime.fromtimestamp(t, UTC))) for t, _value in points}
    )


FUNCTIONS: Mapping[str, tuple[int, int, Function]] = {
    "ABS": (1, 1, _pointwise(abs)),
    "AVG": (1, 1, _summary(statistics.fmean)),
    "CEIL": (1, 1, _pointwise(math.ceil)),
    "DATAPOINT_COUNT": (1, 1, _summary(len)),
    "DATE": (1, 1, _of_time(lambda at: at.day)),
    "DAY": (1, 1, _of_time(lambda at: at.isoweekday())),
    "DIFF": (1, 1, _series(lambda _, points: {t: change for t, change, _s in _steps(points)})),
    "DIFF_TIME": (1, 1, _series(lambda _, points: {t: float(s) for t, _c, s in _steps(points)})),
    "EPOCH": (1, 1, _of_time(lambda at: at.timestamp())),
    "FILL": (2, 2, _fill),
    "FIRST": (1, 1, _pick(0)),
    "FLOOR": (1, 1, _pointwise(math.floor)),
    "HOUR": (1, 1, _of_time(lambda at: at.hour)),
    "IF": (2, 3, _if),
    "LAST": (1, 1, _pick(-1)),
    "LOG": (1, 1, _pointwise(math.log)),
    "LOG10": (1, 1, _pointwise(math.log10)),
    "MAX": (1, 1, _summary(max)),
    "MIN": (1, 1, _summary(min)),
    "MINUTE": (1, 1, _of_time(lambda at: at.minute)),
    "MONTH": (1, 1, _of_time(lambda at: at.month)),
    "PERIOD": (1, 1, _period),
    "RATE": (1, 1, _series(lambda _, points: {t: c / s for t, c, s in _steps(points)})),
    "REMOVE_EMPTY": (1, 1, _remove_empty),
    "RUNNING_SUM": (1, 1, _series(_running_sum)),
    "SLICE": (2, 3, _slice),
    "SORT": (3, 4, _sort),
    "STDDEV": (1, 1, _summary(statistics.pstdev)),
    "SUM": (1, 1, _summary(math.fsum)),
    "TIME_SERIES": (1, 1, _time_series),
    "YEAR": (1, 1, _of_time(lambda at: at.year)),
}
"""Least and most arguments, and what it does."""
