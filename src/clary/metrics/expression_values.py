"""What metric math computes with: numbers, time series, and lists of time series. Pure."""

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from clary.metrics.expression_parser import ExpressionError


@dataclass(frozen=True, slots=True)
class TimeSeries:
    """Values by the begin of their period, in seconds since 1970."""

    points: Mapping[int, float]
    period_s: int
    label: str = ""

    def of(self, points: Mapping[int, float]) -> "TimeSeries":
        """Return one with other values."""
        return replace(self, points=points)


@dataclass(frozen=True, slots=True)
class Word:
    """A bare word or a string."""

    text: str


Value: TypeAlias = float | TimeSeries | Sequence[TimeSeries] | Word


def _divide(one: float, other: float) -> float:
    return one / other if other else math.nan


def _power(one: float, other: float) -> float:
    try:
        result = math.pow(one, other)
    except (ValueError, OverflowError):
        return math.nan
    return result


OPERATORS: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
    "^": _power,
    "==": lambda a, b: float(a == b),
    "!=": lambda a, b: float(a != b),
    "<": lambda a, b: float(a < b),
    "<=": lambda a, b: float(a <= b),
    ">": lambda a, b: float(a > b),
    ">=": lambda a, b: float(a >= b),
    "&&": lambda a, b: float(bool(a) and bool(b)),
    "||": lambda a, b: float(bool(a) or bool(b)),
}


def is_list(value: Value) -> bool:
    """Whether a value is a list of time series."""
    return not isinstance(value, float | TimeSeries | Word)


def series_of(value: Value) -> list[TimeSeries]:
    """Return the time series of a value: one or several.

    Raises:
        ExpressionError: It has none.
    """
    if isinstance(value, TimeSeries):
        return [value]
    if isinstance(value, float | Word):
        raise ExpressionError("The function needs a time series.")
    return list(value)


def each(value: Value, change: Callable[[TimeSeries], TimeSeries]) -> Value:
    """Apply something to a time series, or to each of a list."""
    if isinstance(value, TimeSeries):
        return change(value)
    return [change(one) for one in series_of(value)]


def combine(name: str, left: Value, right: Value) -> Value:
    """Apply an operator, moment by moment; where one side has no value there is no result.

    Raises:
        ExpressionError: It cannot be applied to such values.
    """
    if isinstance(left, Word) or isinstance(right, Word):
        raise ExpressionError(f"The operator {name} cannot be applied to a string.")
    apply = _finite(OPERATORS[name])
    if isinstance(left, float) and isinstance(right, float):
        result = apply(left, right)
        return math.nan if result is None else result
    if isinstance(right, float):
        number = right
        return each(
            left, lambda one: one.of(_kept((t, apply(v, number)) for t, v in one.points.items()))
        )
    if isinstance(left, float):
        number = left
        return each(
            right, lambda one: one.of(_kept((t, apply(number, v)) for t, v in one.points.items()))
        )
    if is_list(left) and is_list(right):
        raise ExpressionError(f"The operator {name} cannot be applied to two arrays.")
    if isinstance(right, TimeSeries):
        series = right
        return each(left, lambda one: _joined(one, series, apply))
    assert isinstance(left, TimeSeries)
    first = left
    return each(right, lambda one: replace(_joined(first, one, apply), label=one.label))


def _finite(
    apply: Callable[[float, float], float],
) -> Callable[[float, float], float | None]:
    """Return an operator that gives nothing where the result is no number."""

    def applied(one: float, other: float) -> float | None:
        try:
            result = apply(one, other)
        except OverflowError:
            return None
        return result if math.isfinite(result) else None

    return applied


def _joined(
    one: TimeSeries, other: TimeSeries, apply: Callable[[float, float], float | None]
) -> TimeSeries:
    points = _kept(
        (t, apply(v, other.points[t])) for t, v in one.points.items() if t in other.points
    )
    return TimeSeries(points, max(one.period_s, other.period_s), one.label)


def _kept(points: Iterable[tuple[int, float | None]]) -> dict[int, float]:
    """Return the points that have a value."""
    return {t: value for t, value in points if value is not None}
