from clary.metrics.invocation_totals import KEPT_S, OTHER, InvocationTotals
from clary.metrics.reports import Difference
from clary.metrics.sketch import bucket_of
from clary.metrics.statistics import StatisticSet

ONE = Difference(invocations=1)


def values(totals, name, now=0.0):
    (family,) = [f for f in totals.families(now) if f.definition.name == name]
    return dict(family.rows)


def test_a_variant_that_serves_begins_at_0():
    totals = InvocationTotals(10)
    totals.follow("a", {"v"}, 0.0)
    assert values(totals, "clary_invocations_total") == {("a", "v"): 0.0}


def test_what_happened_is_added_up():
    totals = InvocationTotals(10)
    times = StatisticSet(2.0, 3e6, 1e6, 2e6, {bucket_of(1e6): 1.0, bucket_of(2e6): 1.0})
    change = Difference(
        invocations=3,
        client_errors=1,
        failed=2,
        overloaded=4,
        throttled=1,
        handler_us=5_000_000,
        model=times,
    )
    for _ in range(2):
        totals.add("a", "v", "", change, 0.0)
    place = ("a", "v")
    assert values(totals, "clary_invocations_total") == {place: 6.0}
    assert values(totals, "clary_invocations_refused_total") == {
        (*place, "queue_full"): 8.0,
        (*place, "throttled"): 2.0,
        (*place, "no_capacity"): 0.0,
    }
    assert values(totals, "clary_handler_seconds_total") == {place: 10.0}
    assert values(totals, "clary_invocation_errors_total") == {
        (*place, "4xx"): 2.0,
        (*place, "5xx"): 0.0,
        (*place, "no_answer"): 4.0,
    }
    latency = values(totals, "clary_model_latency_seconds")[place]
    assert sum(latency.counts) == 4
    assert latency.sum == 6.0


def test_containers_have_series_of_their_own_and_their_time_counts_for_the_variant():
    totals = InvocationTotals(10)
    totals.follow("a", {"v"}, 0.0)
    totals.add("a", "v", "first", Difference(invocations=1, handler_us=1_000_000, failed=1), 0.0)
    assert values(totals, "clary_container_invocations_total") == {("a", "v", "first"): 1.0}
    assert values(totals, "clary_container_errors_total") == {("a", "v", "first"): 1.0}
    assert values(totals, "clary_invocations_total") == {("a", "v"): 0.0}
    assert values(totals, "clary_handler_seconds_total") == {("a", "v"): 1.0}


def test_variants_beyond_the_limit_are_added_up():
    totals = InvocationTotals(2)
    for name in "abcd":
        totals.follow(name, {"v"}, 0.0)
        totals.add(name, "v", "", ONE, 0.0)
    assert values(totals, "clary_invocations_total") == {("a", "v"): 1, ("b", "v"): 1, OTHER: 2}
    assert values(totals, "clary_variants_summed") == {(): 2.0}
    assert totals.shown("a", "v") == ("a", "v")
    assert totals.shown("c", "v") == OTHER


def test_a_counter_of_many_never_falls():
    totals = InvocationTotals(1)
    for name in "abc":
        totals.follow(name, {"v"}, 0.0)
        totals.add(name, "v", "", ONE, 0.0)
    totals.follow("b", (), 1.0)
    totals.follow("a", (), 1.0)
    late = 2 * KEPT_S
    assert values(totals, "clary_invocations_total", late) == {OTHER: 2.0}
    totals.add("c", "v", "", ONE, late)  # there is room, but it stays where its counts are
    assert values(totals, "clary_invocations_total", late) == {OTHER: 3.0}
    assert values(totals, "clary_variants_summed", late) == {(): 1.0}


def test_the_last_counts_of_what_is_gone_are_seen_for_a_while():
    totals = InvocationTotals(1)
    totals.follow("a", {"v", "w"}, 0.0)
    totals.follow("a", (), 1.0)
    totals.add("a", "v", "", ONE, 2.0)
    assert values(totals, "clary_invocations_total", KEPT_S)
    assert values(totals, "clary_invocations_total", 2 * KEPT_S).keys() <= {OTHER}
    totals.follow("b", {"v"}, 2 * KEPT_S)  # its place is free again
    assert totals.shown("b", "v") == ("b", "v")


def test_a_variant_that_comes_back_goes_on():
    totals = InvocationTotals(5)
    totals.follow("a", {"v"}, 0.0)
    totals.add("a", "v", "", ONE, 0.0)
    totals.follow("a", (), 1.0)
    totals.follow("a", {"v"}, 2.0)
    assert values(totals, "clary_invocations_total", 2 * KEPT_S) == {("a", "v"): 1.0}


def test_what_was_counted_before_its_route_is_known_is_kept():
    # After a restart of control, a report may come before the endpoint is published.
    totals = InvocationTotals(5)
    totals.add("a", "v", "", ONE, 0.0)
    totals.follow("a", {"v"}, 1.0)
    assert values(totals, "clary_invocations_total", 2 * KEPT_S) == {("a", "v"): 1.0}


def test_what_is_gone_and_unknown_is_forgotten():
    totals = InvocationTotals(5)
    totals.add("a", "v", "", ONE, 0.0)
    assert not values(totals, "clary_invocations_total", 2 * KEPT_S)
