"""Metric data queries: metrics, and math over them.

``evaluate`` serves GetMetricData, alarms and customised target tracking alike. The metrics that are
needed are read first (``MetricStore``), then everything else is pure (``expression_*.py``).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from clary.metrics.expression_functions import Span, call
from clary.metrics.expression_parser import (
    Call,
    ExpressionError,
    Name,
    Negation,
    Node,
    Number,
    Operation,
    Text,
    names_in,
    parse_expression,
)
from clary.metrics.expression_parser import Sequence as SequenceNode
from clary.metrics.expression_values import TimeSeries, Value, Word, combine, series_of
from clary.metrics.search import find_metrics
from clary.metrics.series import MetricKey, MetricStore

DEFAULT_PERIOD_S = 300
"""Period of series that an expression makes out of nothing, unless it says another."""

WORDS = frozenset({"REPEAT", "LINEAR", "ASC", "DESC", "AVG", "SUM", "MAX", "MIN", "STDDEV"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricStat:
    """A statistic of one metric."""

    key: MetricKey
    period_s: int
    statistic: str
    unit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricQuery:
    """One of several queries: a metric, or an expression over others."""

    id: str
    metric: MetricStat | None = None
    expression: str | None = None
    period_s: int | None = None
    """Of an expression that has no metric to take it from."""
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One time series that a query gave."""

    label: str
    points: list[tuple[datetime, float]]
    """Ascending."""


def check_queries(queries: Sequence[MetricQuery]) -> Mapping[str, Node]:
    """Return the trees of the expressions, by id.

    Raises:
        ExpressionError: One cannot be read, refers to what is not there, or to itself in the end.
    """
    ids = {query.id for query in queries}
    trees = {q.id: parse_expression(q.expression) for q in queries if q.expression is not None}
    for id, tree in trees.items():
        for name in sorted(names_in(tree) - ids - WORDS):
            raise ExpressionError(f"The expression {id!r} refers to {name!r}, which is no query.")
    done: set[str] = set()
    under_way: set[str] = set()

    def visit(id: str) -> None:
        if id in done or id not in trees:
            return
        if id in under_way:
            raise ExpressionError(f"The expression {id!r} refers to itself.")
        under_way.add(id)
        for name in names_in(trees[id]) & ids:
            visit(name)
        done.add(id)

    for id in trees:
        visit(id)
    return trees


async def evaluate(
    store: MetricStore, queries: Sequence[MetricQuery], start: datetime, end: datetime
) -> dict[str, list[tuple[datetime, float]]]:
    """Return the one time series of each query, by id.

    A query that gives several has their points together where they do not overlap; whoever wants
    them apart asks ``evaluate_all``. One that gives a mere number has no points.

    Raises:
        ExpressionError: See ``check_queries``; or a function was given the wrong arguments.
    """
    results = await evaluate_all(store, queries, start, end)
    return {
        id: sorted({at: value for one in found for at, value in one.points}.items())
        for id, found in results.items()
    }


async def evaluate_all(
    store: MetricStore,
    queries: Sequence[MetricQuery],
    start: datetime,
    end: datetime,
    *,
    wanted: Sequence[str] | None = None,
) -> dict[str, list[Result]]:
    """Return the time series of queries, by id.

    Args:
        store: Has the metrics.
        queries: All of them.
        start: From when, inclusive.
        end: Until when, exclusive.
        wanted: Ids to return; the others only serve them. None: all.

    Raises:
        ExpressionError: As ``evaluate`` does; also for a wanted one that gives a mere number.
    """
    trees = check_queries(queries)
    given: dict[str, Value] = {}
    searches: dict[str, Sequence[TimeSeries]] = {}
    for query in queries:
        if query.metric is not None:
            given[query.id] = await _read(store, query.metric, start, end, query.label)
    for tree in trees.values():
        for text, statistic, period_s in _searches_in(tree):
            for key in await find_metrics(store, text):
                stat = MetricStat(key=key, period_s=period_s, statistic=statistic)
                series = await _read(store, stat, start, end, None)
                found = [*searches.get(_search_id(text, statistic, period_s), ()), series]
                searches[_search_id(text, statistic, period_s)] = found
    span_start, span_end = int(start.timestamp()), int(end.timestamp())
    evaluation = _Evaluation(queries, trees, given, searches, span_start, span_end)
    results: dict[str, list[Result]] = {}
    for query in queries:
        if wanted is not None and query.id not in wanted:
            continue
        value = evaluation.value(query.id)
        if isinstance(value, float | Word):
            if wanted is not None:
                raise ExpressionError(
                    f"The expression {query.id!r} gives a number, not a time series."
                )
            results[query.id] = []
            continue
        results[query.id] = [_result(query, one) for one in series_of(value)]
    return results


async def _read(
    store: MetricStore, stat: MetricStat, start: datetime, end: datetime, label: str | None
) -> TimeSeries:
    rows = await store.statistics(
        stat.key,
        start=start,
        end=end,
        period_s=stat.period_s,
        statistics=[stat.statistic],
        unit=stat.unit,
    )
    points = {int(at.timestamp()): values[stat.statistic] for at, values in rows}
    return TimeSeries(points, stat.period_s, label or stat.key.name)


def _result(query: MetricQuery, series: TimeSeries) -> Result:
    label = query.label or series.label or query.id
    points = [
        (datetime.fromtimestamp(t, UTC), value)
        for t, value in sorted(series.points.items())
        if math.isfinite(value)
    ]
    return Result(label, points)


class _Evaluation:
    """All queries of one call, each computed once."""

    def __init__(
        self,
        queries: Sequence[MetricQuery],
        trees: Mapping[str, Node],
        given: dict[str, Value],
        searches: Mapping[str, Sequence[TimeSeries]],
        start: int,
        end: int,
    ) -> None:
        self._queries = {query.id: query for query in queries}
        self._trees = trees
        self._known = given
        self._searches = searches
        self._metrics = [id for id, query in self._queries.items() if query.metric is not None]
        periods = [query.metric.period_s for query in queries if query.metric is not None]
        self._period_s = max(periods, default=0)
        self._start, self._end = start, end

    def value(self, id: str) -> Value:
        if id not in self._known:
            own = self._queries[id].period_s
            span = Span(self._start, self._end, own or self._period_s or DEFAULT_PERIOD_S)
            self._known[id] = self._compute(self._trees[id], span)
        return self._known[id]

    def _compute(self, node: Node, span: Span) -> Value:
        # The left side of a long sum is as deep as the sum is long: walked, not recursed into.
        rest: list[Operation] = []
        while isinstance(node, Operation):
            rest.append(node)
            node = node.left
        value = self._atom(node, span)
        for operation in reversed(rest):
            value = combine(operation.operator, value, self._compute(operation.right, span))
        return value

    def _atom(self, node: Node, span: Span) -> Value:
        if isinstance(node, Number):
            return node.value
        if isinstance(node, Text):
            return Word(node.value)
        if isinstance(node, Name):
            return self.value(node.value) if node.value in self._queries else Word(node.value)
        if isinstance(node, Negation):
            return combine("*", self._compute(node.operand, span), -1.0)
        if isinstance(node, SequenceNode):
            return [one for item in node.items for one in series_of(self._compute(item, span))]
        assert isinstance(node, Call)
        if node.function == "METRICS":
            return self._all_metrics([self._compute(each, span) for each in node.arguments])
        if node.function == "SEARCH":
            return list(self._searches.get(_search_id(*_search_of(node)), ()))
        return call(node.function, [self._compute(each, span) for each in node.arguments], span)

    def _all_metrics(self, arguments: Sequence[Value]) -> Value:
        part = arguments[0].text if arguments and isinstance(arguments[0], Word) else ""
        values = [self._known[id] for id in self._metrics if part in id]
        return [one for value in values for one in series_of(value)]


def _searches_in(node: Node) -> list[tuple[str, str, int]]:
    found = []
    waiting: list[Node] = [node]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Call):
            if each.function == "SEARCH":
                found.append(_search_of(each))
            else:
                waiting += each.arguments
        elif isinstance(each, Operation):
            waiting += (each.left, each.right)
        elif isinstance(each, Negation):
            waiting.append(each.operand)
        elif isinstance(each, SequenceNode):
            waiting += each.items
    return found


def _search_of(node: Call) -> tuple[str, str, int]:
    arguments = node.arguments
    if len(arguments) in (2, 3) and all(isinstance(each, Text) for each in arguments[:2]):
        text, statistic = (each.value for each in arguments[:2] if isinstance(each, Text))
        period = arguments[2] if len(arguments) == 3 else Number(DEFAULT_PERIOD_S)
        if isinstance(period, Number) and period.value >= 1:
            return text, statistic, int(period.value)
    raise ExpressionError("SEARCH takes a search, a statistic, and a period in seconds.")


def _search_id(text: str, statistic: str, period_s: int) -> str:
    return f"{period_s} {statistic} {text}"
