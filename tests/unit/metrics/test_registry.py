"""What gateways count and report, and what control makes of reports."""

import json
import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.metrics.endpoint_metrics import dimension_sets, errors, invocation_metrics
from clary.metrics.registry import ACCURACY, ZERO_BUCKET, Latencies, Registry, VariantCounters
from clary.metrics.reports import Difference, Seen
from clary.metrics.sketch import value_of
from clary.metrics.statistics import StatisticSet

TIMES = st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=60)


@given(times=TIMES)
def test_times_are_folded_into_buckets_that_are_near_them(times: list[float]) -> None:
    latencies = Latencies()
    latencies.samples.extend(times)
    latencies.fold()
    assert (latencies.count, latencies.samples) == (len(times), [])
    assert latencies.sum_us == pytest.approx(math.fsum(times) * 1e6)
    assert latencies.minimum == pytest.approx(min(times) * 1e6)
    assert latencies.maximum == pytest.approx(max(times) * 1e6)
    found = sorted(bucket for bucket, n in latencies.buckets.items() for _ in range(n))
    for bucket, seconds in zip(found, sorted(times), strict=True):
        # The bucket's width, and that of the float's upper half.
        assert value_of(bucket) == pytest.approx(seconds * 1e6, rel=ACCURACY + 1 / 256 + 1e-3)


@pytest.mark.parametrize("count", [999, 2000, 2001, 12_345])
def test_of_very_many_times_some_stand_for_their_neighbours(count: int) -> None:
    random = Random(count)
    times = [random.lognormvariate(-6.0, 0.5) for _ in range(count)]
    latencies = Latencies()
    latencies.samples.extend(times)
    latencies.fold()
    assert (latencies.count, sum(latencies.buckets.values())) == (count, count)
    assert latencies.sum_us == pytest.approx(math.fsum(times) * 1e6)
    assert latencies.minimum == pytest.approx(min(times) * 1e6)
    assert latencies.maximum == pytest.approx(max(times) * 1e6)
    found = sorted(bucket for bucket, n in latencies.buckets.items() for _ in range(n))
    median = value_of(found[count // 2])
    assert median == pytest.approx(sorted(times)[count // 2] * 1e6, rel=0.1)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_clock_that_was_set_back_spoils_nothing(seconds: float) -> None:
    latencies = Latencies()
    latencies.samples.append(seconds)
    latencies.fold()
    assert latencies.minimum == 0.0
    assert value_of(next(iter(latencies.buckets))) < 1e-6 or ZERO_BUCKET in latencies.buckets


def reported(registry: Registry, *, all_of_it: bool = False) -> dict[str, object]:
    """A report as it arrives."""
    report: dict[str, object] = json.loads(json.dumps(registry.report(all_of_it=all_of_it)))
    return report


EVENTS = st.lists(
    st.one_of(
        st.just("ok"), st.just("400"), st.just("500"), st.just("lost"), st.just("report"),
        st.just("lose a report"), st.just("connect"), st.just("restart"),
    ),
    max_size=40,
)  # fmt: skip


@given(events=EVENTS)
def test_differences_add_up_to_all_whatever_is_lost(events: list[str]) -> None:
    registry = Registry()
    counters = registry.variant("digits", "A")
    seen = Seen()
    total: dict[str, float] = dict.fromkeys(("calls", "4xx", "5xx", "errors", "ended", "times"), 0)
    sent = dict(total)
    is_first = True

    def take(report: dict[str, object]) -> None:
        rows: object = report["items"]
        assert isinstance(rows, list)
        for row in rows:
            change = seen.take(row[-1])
            total["calls"] += change.invocations
            total["4xx"] += change.client_errors
            total["5xx"] += change.server_errors
            total["errors"] += change.model_errors
            total["ended"] += change.ended
            total["times"] += change.model.sum if change.model else 0

    for event in [*events, "connect", "report"]:
        if event == "report":
            take(reported(registry, all_of_it=is_first))
            is_first = False
        elif event == "lose a report":
            reported(registry, all_of_it=is_first)
            is_first = True  # the connection is lost with it
        elif event == "connect":
            is_first = True
        elif event == "restart":
            seen = Seen(json.loads(json.dumps(seen.to_json())))
            is_first = True
        else:
            counters.invocations += 1
            sent["calls"] += 1
            sent["ended"] += 1
            if event == "lost":
                counters.count_failure()
            else:
                counters.model.samples.append(0.25)
                sent["times"] += 250_000
                if event != "ok":
                    counters.count_answer(int(event))
                    sent["4xx" if event == "400" else "5xx"] += 1
            sent["errors"] += event != "ok"
    assert total == pytest.approx(sent)


def test_a_report_has_only_what_has_changed() -> None:
    registry = Registry()
    one, _two = registry.variant("one", "A"), registry.variant("two", "A")
    assert len(registry.report(all_of_it=True)["items"]) == 2
    assert registry.report(all_of_it=False)["items"] == []
    one.model.samples.append(0.01)
    (row,) = registry.report(all_of_it=False)["items"]
    assert row[:4] == ["one", "A", "", ""]
    one.model.samples.append(1.0)
    ((*_, values),) = registry.report(all_of_it=False)["items"]
    assert len(values["model"]["buckets"]) == 1  # the one that has grown
    assert len(registry.report(all_of_it=True)["items"][0][-1]["model"]["buckets"]) == 2


def test_an_endpoint_that_is_gone_is_reported_once_more() -> None:
    registry = Registry()
    counters = registry.variant("digits", "A")
    registry.report(all_of_it=True)
    counters.invocations += 1
    registry.forget("digits")
    again = registry.variant("digits", "A")
    assert again is not counters
    report = registry.report(all_of_it=False)
    assert [(row[0], row[-1]["number"]) for row in report["items"]] == [("digits", 1)]
    assert report["gone"] == [["digits", "A", "", "", counters.number]]
    assert registry.report(all_of_it=False)["gone"] == []


def test_loads_are_the_most_since_the_last_report() -> None:
    registry = Registry()
    for load in (3, 7, 5):
        registry.note_load("i-1", load)
    assert registry.report(all_of_it=False)["loads"] == {"i-1": 7}
    assert registry.report(all_of_it=False)["loads"] == {}


def test_configurations_and_containers_are_counted_apart_and_shown_together() -> None:
    registry = Registry()
    registry.variant("e", "A", "config-1").invocations = 2
    registry.variant("e", "A", "config-2").invocations = 3
    registry.container("e", "A", "first").handler_us = 7
    (row,) = registry.to_json()
    assert (row["invocations"], row["handler_us"]) == (5, 7)
    inside: object = row["containers"]
    assert isinstance(inside, dict)
    assert inside["first"]["handler_us"] == 7


def test_the_least_and_largest_are_exact_when_all_is_new() -> None:
    registry = Registry()
    counters = registry.variant("e", "A")
    counters.model.samples.extend([0.001234, 0.777])
    ((*_, row),) = registry.report(all_of_it=True)["items"]
    change = Seen().take(row)
    assert change.model is not None
    assert (change.model.minimum, change.model.maximum) == pytest.approx((1234, 777_000))


NAMES = {
    "Invocations": (5, 5, None),
    "InvocationsPerInstance": (5, 2.5, None),
    "Invocation4XXErrors": (4, 1, None),
    "Invocation5XXErrors": (4, 1, None),
    "InvocationModelErrors": (4, 3, None),
    "ModelLatency": (3, 600, "Microseconds"),
    "OverheadLatency": (3, 30, "Microseconds"),
}


def test_names_units_and_values_of_an_invocations_metrics() -> None:
    change = Difference(
        invocations=5,
        model_errors=3,
        client_errors=1,
        server_errors=1,
        failed=1,
        model=StatisticSet(3, 600, 100, 300, {1: 3}),
        overhead=StatisticSet(3, 30, 10, 10, {1: 3}),
    )
    (dimensions,) = dimension_sets("e", "A")
    measured = list(invocation_metrics(dimensions, change, instances=2))
    found = {each.key.name: (each.values.count, each.values.sum, each.unit) for each in measured}
    assert found == NAMES
    assert {each.key.dimensions for each in measured} == {
        (("EndpointName", "e"), ("VariantName", "A"))
    }


def test_names_of_a_containers_metrics() -> None:
    (dimensions,) = dimension_sets("e", "A", container="first")
    change = Difference(invocations=1, model=StatisticSet(1, 5, 5, 5, {1: 1}))
    names = [each.key.name for each in invocation_metrics(dimensions, change, instances=1)]
    assert "ContainerLatency" in names
    assert "ModelLatency" not in names
    assert "InvocationsPerInstance" not in names


def test_an_updated_endpoint_has_its_configuration_as_a_second_set() -> None:
    assert dimension_sets("e", "A", config="c-2") == [
        {"EndpointName": "e", "VariantName": "A"},
        {"EndpointName": "e", "VariantName": "A", "EndpointConfigName": "c-2"},
    ]


@pytest.mark.parametrize(
    ("count", "calls", "least", "most"), [(0, 4, 0, 0), (4, 4, 1, 1), (1, 4, 0, 1), (9, 4, 1, 1)]
)
def test_errors_are_ones_among_zeros(count: int, calls: int, least: float, most: float) -> None:
    values = errors(count, calls)
    assert (values.count, values.sum) == (calls, min(count, calls))
    assert (values.minimum, values.maximum) == (least, most)
    assert VariantCounters().is_measured
