"""Sums, percentiles and their kin, and what sketches keep of values."""

import math
import statistics as exact

import pytest
from ddsketch.mapping import LogarithmicMapping
from hypothesis import given
from hypothesis import strategies as st

from clary.errors import InvalidRequest
from clary.metrics.point_rows import dump_point, load_point, merge_rows
from clary.metrics.registry import ACCURACY
from clary.metrics.sketch import bucket_of, dump_buckets, load_buckets, quantile, value_of
from clary.metrics.statistics import Range, StatisticSet, parse_statistic, read_statistic

VALUES = st.lists(st.floats(0, 1e9, allow_subnormal=False), min_size=1, max_size=50)


def all_of(values: list[float]) -> StatisticSet:
    together = StatisticSet.of(values[0])
    for value in values[1:]:
        together += StatisticSet.of(value)
    return together


@given(values=VALUES, cut=st.integers(0, 50))
def test_statistics_of_parts_add_up_to_those_of_all(values: list[float], cut: int) -> None:
    one, two = values[:cut], values[cut:]
    together = all_of(values)
    parts = [all_of(part) for part in (one, two) if part]
    merged = parts[0] if len(parts) == 1 else parts[0] + parts[1]
    assert merged.count == len(values)
    assert merged.sum == pytest.approx(math.fsum(values))
    assert (merged.minimum, merged.maximum) == (min(values), max(values))
    assert merged.distribution == together.distribution
    assert load_point(dump_point(merged)).distribution == merged.distribution
    if len(parts) == 2:
        assert load_point(merge_rows(*map(dump_point, parts))).distribution == merged.distribution


@given(values=VALUES, percent=st.integers(0, 100))
def test_a_percentile_is_within_its_accuracy(values: list[float], percent: int) -> None:
    found = read_statistic(all_of(values), parse_statistic(f"p{percent}"))
    ordered = sorted(values)
    rank = percent / 100 * (len(ordered) - 1)
    near = (ordered[math.floor(rank)], ordered[math.ceil(rank)])
    assert found is not None
    assert near[0] * (1 - ACCURACY) - 1e-9 <= found <= near[1] * (1 + ACCURACY) + 1e-9


@given(values=st.lists(st.floats(1, 1e6), min_size=4, max_size=50))
def test_a_trimmed_mean_of_everything_is_the_mean(values: list[float]) -> None:
    found = read_statistic(all_of(values), parse_statistic("tm100"))
    assert found == pytest.approx(exact.fmean(values), rel=2 * ACCURACY)


@given(value=st.floats(1e-6, 1e12))
def test_buckets_are_those_of_the_library(value: float) -> None:
    assert bucket_of(value) == LogarithmicMapping(ACCURACY).key(value)
    assert value_of(bucket_of(value)) == pytest.approx(value, rel=ACCURACY * 1.01)


def test_zero_has_a_bucket_of_its_own() -> None:
    assert value_of(bucket_of(0.0)) == 0.0
    assert quantile({bucket_of(0.0): 3, bucket_of(5.0): 1}, 0.5) == 0.0


@given(buckets=st.dictionaries(st.integers(-(1 << 30), 1 << 20), st.floats(0.1, 1e6), max_size=20))
def test_sketches_survive_being_stored(buckets: dict[int, float]) -> None:
    assert load_buckets(dump_buckets(buckets)) == buckets


NAMES = {
    "Sum": "Sum",
    "p99": Range("p", 0, 99, True),
    "p99.9": Range("p", 0, 99.9, True),
    "p100": Range("p", 0, 100, True),
    "tm90": Range("tm", 0, 90, True),
    "TM(10%:90%)": Range("tm", 10, 90, True),
    "TM(:90%)": Range("tm", 0, 90, True),
    "TM(10%:)": Range("tm", 10, 100, True),
    "wm(10:20)": Range("wm", 10, 20, False),
    "TS(10:)": Range("ts", 10, math.inf, False),
    "PR(0:250)": Range("pr", 0, 250, False),
    "IQM": Range("tm", 25, 75, True),
}


@pytest.mark.parametrize(("name", "parsed"), NAMES.items(), ids=NAMES)
def test_names_of_statistics(name: str, parsed: object) -> None:
    assert parse_statistic(name) == parsed


@pytest.mark.parametrize(
    "name",
    ["sum", "p", "p101", "p-1", "pr99", "PR(1%:2%)", "TM(1:2%)", "TM(:)", "TM(20:10)", "q5", ""],
)
def test_what_is_no_statistic(name: str) -> None:
    with pytest.raises(InvalidRequest, match="not a valid statistic"):
        parse_statistic(name)


def test_values_below_zero_have_no_percentiles() -> None:
    values = StatisticSet.of(-1.0) + StatisticSet.of(4.0)
    assert read_statistic(values, parse_statistic("p50")) is None
    assert read_statistic(values, "Average") == 1.5


def test_a_statistic_set_of_equal_values_has_percentiles() -> None:
    values = StatisticSet(3, 12.0, 4.0, 4.0)
    assert read_statistic(values, parse_statistic("p99")) == 4.0
    assert read_statistic(values, parse_statistic("PR(0:3)")) == 0.0
    assert read_statistic(values, parse_statistic("TM(10:20)")) is None


def test_a_winsorized_mean_counts_what_is_outside_at_the_edge() -> None:
    values = all_of([float(n) for n in range(1, 11)])
    assert read_statistic(values, parse_statistic("WM(80%:100%)")) == pytest.approx(9.1, rel=0.02)
    assert read_statistic(values, parse_statistic("TM(3:6)")) == pytest.approx(5, rel=0.02)
