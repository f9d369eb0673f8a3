"""Metric math: reading it, and what it computes."""

import asyncio
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clary.metrics.expression_functions import FUNCTIONS
from clary.metrics.expression_parser import (
    Call,
    ExpressionError,
    Name,
    Negation,
    Node,
    Number,
    Operation,
    Sequence,
    Text,
    names_in,
    parse_expression,
)
from clary.metrics.expressions import MetricQuery, MetricStat, evaluate, evaluate_all
from clary.metrics.key import MetricKey
from clary.metrics.search import parse_search

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
END = START + timedelta(minutes=6)

DATA: dict[str, dict[int, float]] = {
    "a": {0: 1.0, 1: 2.0, 2: 3.0, 5: 6.0},
    "b": {0: 2.0, 1: 0.0, 2: 4.0, 4: 8.0},
    "empty": {},
}


class FakeStore:
    """Has ``DATA`` by the names of metrics, one value a minute."""

    async def statistics(self, key: MetricKey, *, period_s: int, **_: Any) -> Any:
        (name,) = (name for name in ("Sum",))
        points = DATA[key.name].items()
        return [(START + timedelta(minutes=n), {name: value}) for n, value in points]

    async def list_metrics(self, *, namespace: str | None) -> list[MetricKey]:
        return [MetricKey("N", "a", (("E", "x"),)), MetricKey("N", "b", (("E", "y"),))]


def metric(id: str) -> MetricQuery:
    stat = MetricStat(key=MetricKey("N", id), period_s=60, statistic="Sum")
    return MetricQuery(id=id, metric=stat)


def computed(text: str) -> dict[int, float]:
    """The points of an expression, by minute."""
    queries = [*(metric(id) for id in DATA), MetricQuery(id="e", expression=text)]
    store: Any = FakeStore()
    points = asyncio.run(evaluate(store, queries, START, END))["e"]
    return {int((at - START).total_seconds() // 60): value for at, value in points}


CASES = {
    "a + b": {0: 3, 1: 2, 2: 7},
    "a - 1": {0: 0, 1: 1, 2: 2, 5: 5},
    "10 / b": {0: 5, 2: 2.5, 4: 1.25},  # nothing where it is divided by 0
    "-a ^ 2": {0: -1, 1: -4, 2: -9, 5: -36},
    "2 ^ 3 ^ 2 * a / a": {0: 512, 1: 512, 2: 512, 5: 512},
    "2 + 3 * a": {0: 5, 1: 8, 2: 11, 5: 20},
    "(2 + 3) * a": {0: 5, 1: 10, 2: 15, 5: 30},
    "a > 1": {0: 0, 1: 1, 2: 1, 5: 1},
    "a > 1 && b > 1": {0: 0, 1: 0, 2: 1},
    "a == 1 OR b == 0": {0: 1, 1: 1, 2: 0},
    "SUM([a, b])": {0: 3, 1: 2, 2: 7, 4: 8, 5: 6},
    "SUM(METRICS())": {0: 3, 1: 2, 2: 7, 4: 8, 5: 6},
    "AVG([a, b])": {0: 1.5, 1: 1, 2: 3.5, 4: 8, 5: 6},
    "MAX([a, b]) - MIN([a, b])": {0: 1, 1: 2, 2: 1, 4: 0, 5: 0},
    "a - AVG(a)": {0: -2, 1: -1, 2: 0, 5: 3},
    "a / SUM(a) * 12": {0: 1, 1: 2, 2: 3, 5: 6},
    "STDDEV([a, b])": {0: 0.5, 1: 1, 2: 0.5, 4: 0, 5: 0},
    "DATAPOINT_COUNT([a, b])": {0: 2, 1: 2, 2: 2, 4: 1, 5: 1},
    "IF(a > 1, a, 0)": {0: 0, 1: 2, 2: 3, 5: 6},
    "IF(a > 1, b)": {1: 0, 2: 4},
    "IF(b, a / b, 0)": {0: 0.5, 1: 0, 2: 0.75},
    "IF(SUM(a) > 5, a, b)": {0: 1, 1: 2, 2: 3, 5: 6},
    "FILL(a, 0)": {0: 1, 1: 2, 2: 3, 3: 0, 4: 0, 5: 6},
    "FILL(a, REPEAT)": {0: 1, 1: 2, 2: 3, 3: 3, 4: 3, 5: 6},
    "FILL(a, LINEAR)": {0: 1, 1: 2, 2: 3, 3: 4, 4: 5, 5: 6},
    "FILL(a, b)": {0: 1, 1: 2, 2: 3, 4: 8, 5: 6},
    "FILL(empty, 7)": dict.fromkeys(range(6), 7),
    "FILL(empty, REPEAT)": {},
    "RATE(a) * 60": {1: 1, 2: 1, 5: 1},
    "DIFF(a)": {1: 1, 2: 1, 5: 3},
    "DIFF_TIME(a)": {1: 60, 2: 60, 5: 180},
    "RUNNING_SUM(a)": {0: 1, 1: 3, 2: 6, 5: 12},
    "a * PERIOD(a)": {0: 60, 1: 120, 2: 180, 5: 360},
    "a / PERIOD(a) * 60": {0: 1, 1: 2, 2: 3, 5: 6},
    "TIME_SERIES(5)": dict.fromkeys(range(6), 5),
    "HOUR(a) * 100 + MINUTE(a)": {0: 800, 1: 801, 2: 802, 5: 805},
    "DAY(a) + MONTH(a) * 0 + YEAR(a) * 0 + DATE(a)": {0: 6, 1: 6, 2: 6, 5: 6},
    "EPOCH(a) - EPOCH(a)": {0: 0, 1: 0, 2: 0, 5: 0},
    "ABS(0 - a)": {0: 1, 1: 2, 2: 3, 5: 6},
    "CEIL(a / 4) + FLOOR(a / 4)": {0: 1, 1: 1, 2: 1, 5: 3},
    "LOG10(b)": {0: math.log10(2), 2: math.log10(4), 4: math.log10(8)},
    "LOG(b / b)": {0: 0, 2: 0, 4: 0},
    "FIRST([a, b])": {0: 1, 1: 2, 2: 3, 5: 6},
    "LAST([a, b])": {0: 2, 1: 0, 2: 4, 4: 8},
    "SUM(SLICE([a, b], 1, 2))": {0: 2, 1: 0, 2: 4, 4: 8},
    "SLICE([a, b], 0)": {0: 1, 1: 2, 2: 3, 5: 6},
    "FIRST(SORT([a, b], MAX, DESC))": {0: 2, 1: 0, 2: 4, 4: 8},
    "SUM(SORT([a, b], AVG, ASC, 1))": {0: 1, 1: 2, 2: 3, 5: 6},
    "SUM(REMOVE_EMPTY([a, empty]))": {0: 1, 1: 2, 2: 3, 5: 6},
    "SUM(SEARCH('{N,E} MetricName=\"a\"', 'Sum', 60))": {0: 1, 1: 2, 2: 3, 5: 6},
    "SUM(SEARCH('{N,E}', 'Sum', 60))": {0: 3, 1: 2, 2: 7, 4: 8, 5: 6},
    "SUM(SEARCH('{N} a', 'Sum', 60))": {},
    "a + nothing_here": None,
    "[a, b] + [a, b]": None,
    "a +": None,
    "(a": None,
    "a b": None,
    "SUM()": None,
    "SUM(a, b)": None,
    "NONSENSE(a)": None,
    "SUM('text')": None,
    "a + 'text'": None,
    "FILL(a, DESC)": None,
    "SORT(a, AVG, DESC)": None,
    "FIRST(a)": None,
    "PERIOD([a, b])": None,
    "SEARCH('x')": None,
    "SEARCH('a OR b', 'Sum', 60)": None,
    "a # b": None,
    "e + 1": None,
}  # fmt: skip


@pytest.mark.parametrize(("text", "points"), CASES.items(), ids=CASES)
def test_expressions(text: str, points: dict[int, float] | None) -> None:
    if points is None:
        with pytest.raises(ExpressionError):
            computed(text)
    else:
        assert computed(text) == pytest.approx(points)


def test_every_function_is_among_the_cases() -> None:
    called = {
        each
        for text, points in CASES.items()
        if points is not None
        for each in FUNCTIONS
        if f"{each}(" in text
    }
    assert called == set(FUNCTIONS)


def test_an_array_gives_several_results_with_labels() -> None:
    store: Any = FakeStore()
    query = MetricQuery(id="e", expression="SEARCH('{N,E}', 'Sum', 60)")
    results = asyncio.run(evaluate_all(store, [query], START, END))["e"]
    assert [(one.label, len(one.points)) for one in results] == [("a", 4), ("b", 4)]


NAMES = st.from_regex(r"\A[a-z][a-z0-9_]{0,4}\Z")
TREES: st.SearchStrategy[Node] = st.recursive(
    st.one_of(
        st.floats(0, 1e9).map(Number),
        NAMES.map(Name),
        st.text("ab {},=", max_size=5).map(Text),
    ),
    lambda below: st.one_of(
        st.builds(Operation, st.sampled_from(["+", "-", "*", "/", "^", "<", ">=", "&&", "||"]),
                  below, below),
        st.builds(Negation, below),
        st.lists(below, max_size=3).map(lambda each: Call("F", tuple(each))),
        st.lists(below, max_size=3).map(lambda each: Sequence(tuple(each))),
    ),
    max_leaves=12,
)  # fmt: skip


def written(node: Node) -> str:
    """A tree as text, with every bracket."""
    if isinstance(node, Number):
        return repr(node.value)
    if isinstance(node, Text):
        return f"'{node.value}'"
    if isinstance(node, Name):
        return node.value
    if isinstance(node, Negation):
        return f"(-({written(node.operand)}))"
    if isinstance(node, Operation):
        return f"({written(node.left)}){node.operator} ({written(node.right)})"
    if isinstance(node, Call):
        return f"{node.function}({', '.join(map(written, node.arguments))})"
    return f"[{','.join(map(written, node.items))}]"


@given(tree=TREES)
def test_what_is_written_is_read_again(tree: Node) -> None:
    assert parse_expression(written(tree)) == tree


@given(text=st.text("ab1.+-*/^()[],<>=&|'\" \u00e9ANDORIF", max_size=40))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    refusal = "none"
    try:
        names_in(parse_expression(text))
    except ExpressionError as error:
        refusal = error.message
    assert refusal


NUMBERS = st.integers(1, 20).map(float)


@settings(max_examples=50)
@given(first=NUMBERS, rest=st.lists(st.tuples(st.sampled_from("+-*/"), NUMBERS), max_size=8))
def test_numbers_are_computed_as_python_does(first: float, rest: list[tuple[str, float]]) -> None:
    text = f"{first}" + "".join(f" {sign} {number}" for sign, number in rest)
    expected = eval(text)
    assert computed(f"TIME_SERIES({text})")[0] == pytest.approx(expected)


@pytest.mark.parametrize("text", ["+".join(["1"] * 1000), "1" + " - 1" * 500])
def test_a_long_sum_is_no_deep_one(text: str) -> None:
    assert computed(f"TIME_SERIES({text})")[0] == eval(text)


@pytest.mark.parametrize("text", ["(" * 500 + "1" + ")" * 500, "-" * 500 + "1", "^1" * 1500])
def test_what_is_nested_too_deeply_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_expression(text)


def test_too_long_an_expression_is_refused() -> None:
    with pytest.raises(ExpressionError, match="2048"):
        parse_expression("1" * 3000)


@pytest.mark.parametrize(
    ("text", "finds"),
    [
        ("{N,E}", True),
        ("{N}", False),
        ("{N,E,F}", False),
        ("load", True),
        ("LOAD digits", True),
        ('MetricName="Load"', True),
        ('MetricName="Loa"', False),
        ('E="digits"', True),
        ("E=other", False),
        ('{N, E} MetricName="Load" digits', True),
    ],
)
def test_searches(text: str, finds: bool) -> None:
    assert parse_search(text).matches(MetricKey("N", "Load", (("E", "digits"),))) is finds
