"""Scaling policies: what their alarms make of a capacity."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from clary.control.scaling_policy import (
    Call,
    NotScaled,
    PolicyView,
    Watch,
    adjust,
    cooled,
    decide,
    find_adjustment,
    not_scaled_details,
    track,
)
from clary.resources.scaling import (
    VARIANT_INSTANCES,
    Cooling,
    ScalableTarget,
    SuspendedState,
    TargetName,
)
from clary.resources.scaling_policies import StepScaling, TargetTracking, parse_steps

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def ago(seconds):
    return NOW - timedelta(seconds=seconds)


def a_target(minimum=1, maximum=10, **more):
    return ScalableTarget(
        id="t",
        name=TargetName("endpoint/e/variant/v", VARIANT_INSTANCES),
        min_capacity=minimum,
        max_capacity=maximum,
        role_arn="",
        created_at=NOW,
        **more,
    )


def a_call(value, *, above=True, threshold=100.0, alarm="alarm"):
    return Call(alarm=alarm, state="ALARM", value=value, threshold=threshold, is_above=above)


def high(value, target=100.0, *, name="p", **rule):
    tracking = TargetTracking(target=target, **rule)
    return PolicyView(name=name, rule=tracking, calls=(a_call(value),), watch=Watch.HIGH)


def low(value, target=100.0, *, name="p", **rule):
    tracking = TargetTracking(target=target, **rule)
    call = a_call(value, above=False, threshold=target * 0.9)
    return PolicyView(name=name, rule=tracking, calls=(call,), watch=Watch.LOW)


def between(name="other", watch=Watch.BETWEEN, **rule):
    return PolicyView(name=name, rule=TargetTracking(target=100.0, **rule), watch=watch)


def steps(*triples, adjustment_type="ChangeInCapacity", **more):
    adjustments = []
    for lower, upper, adjustment in triples:
        step = {"ScalingAdjustment": adjustment}
        if lower is not None:
            step["MetricIntervalLowerBound"] = lower
        if upper is not None:
            step["MetricIntervalUpperBound"] = upper
        adjustments.append(step)
    return parse_steps({"AdjustmentType": adjustment_type, "StepAdjustments": adjustments, **more})


def stepping(value, *triples, above=True, threshold=100.0, name="s", **more):
    call = a_call(value, above=above, threshold=threshold)
    return PolicyView(name=name, rule=steps(*triples, **more), calls=(call,))


@pytest.mark.parametrize(
    ("capacity", "policies", "expected"),
    [
        pytest.param(2, [high(250.0)], 5, id="out in proportion"),
        pytest.param(2, [high(101.0)], 3, id="out, rounded up"),
        pytest.param(3, [high(200.0)], 6, id="out, exactly"),
        pytest.param(3, [high(1000.0)], 10, id="not above the maximum"),
        pytest.param(6, [low(40.0)], 3, id="in, rounded up"),
        pytest.param(6, [low(0.0)], 1, id="no traffic: to the minimum"),
        pytest.param(2, [high(250.0), high(150.0, name="q")], 5, id="out: the largest wins"),
        pytest.param(2, [high(150.0), low(0.0, name="q")], 3, id="out although another wants in"),
        pytest.param(6, [low(40.0), low(60.0, name="q")], 4, id="in: the largest wins"),
        pytest.param(6, [low(40.0), between()], None, id="in only if all agree"),
        pytest.param(
            6, [low(40.0), between(watch=Watch.UNKNOWN)], None, id="without data nobody agrees"
        ),
        pytest.param(6, [low(40.0), between(watch=Watch.LOW)], None, id="not before all have said"),
        pytest.param(
            6, [low(40.0), between(may_scale_in=False)], 3, id="who may not scale in is not asked"
        ),
        pytest.param(6, [low(40.0, may_scale_in=False)], None, id="may not scale in"),
        pytest.param(2, [between()], None, id="nobody calls"),
        pytest.param(2, [high(None)], None, id="no value"),
        pytest.param(2, [stepping(150.0, (0, None, 2))], 4, id="step"),
        pytest.param(
            6, [stepping(20.0, (None, 0, -2), above=False), between()], 4,
            id="step scale-in is not held back by target tracking",
        ),
        pytest.param(
            2, [stepping(150.0, (0, None, 2)), high(450.0)], 9, id="step and tracking: the largest"
        ),
        pytest.param(
            10, [stepping(150.0, (0, None, 200), adjustment_type="PercentChangeInCapacity"),
                 stepping(150.0, (0, None, 3), name="q")], 30,
            id="AWS's example: 200 % of 10 against 3",
        ),
        pytest.param(0, [high(500.0)], None, id="target tracking cannot leave 0"),
        pytest.param(0, [stepping(150.0, (0, None, 1))], 1, id="a step can"),
        pytest.param(2, [stepping(50.0, (0, None, 2))], None, id="value into no step"),
    ],
)  # fmt: skip
def test_what_becomes_of_the_capacity(capacity, policies, expected):
    maximum = 30 if expected == 30 else 10
    minimum = 0 if capacity == 0 else 1
    decision = decide(a_target(minimum, maximum), capacity, policies, NOW)
    scaled = decision.capacity if decision and decision.reason is None else None
    assert scaled == expected


@pytest.mark.parametrize(
    ("capacity", "policies", "reason"),
    [
        pytest.param(10, [high(250.0)], NotScaled.AT_MAX),
        pytest.param(12, [high(250.0)], NotScaled.AT_MAX, id="moved above it by hand"),
        pytest.param(1, [low(0.0)], NotScaled.AT_MIN),
        pytest.param(2, [low(80.0)], NotScaled.FLAPPING, id="one less would be 160"),
        pytest.param(2, [high(99.0)], NotScaled.AT_DESIRED, id="over by now"),
        pytest.param(
            4, [stepping(150.0, (0, None, 4), adjustment_type="ExactCapacity")],
            NotScaled.AT_DESIRED,
        ),
    ],
)  # fmt: skip
def test_why_nothing_is_done(capacity, policies, reason):
    decision = decide(a_target(), capacity, policies, NOW)
    assert decision is not None
    assert (decision.reason, decision.capacity) == (reason, capacity)


def test_the_reasons_say_what_aws_says_with_them():
    target = a_target(2, 9)
    assert not_scaled_details(NotScaled.AT_MAX, target, 9) == {
        "Code": "AlreadyAtMaxCapacity",
        "MaxCapacity": 9,
    }
    assert not_scaled_details(NotScaled.AT_MIN, target, 2)["MinCapacity"] == 2
    assert not_scaled_details(NotScaled.AT_DESIRED, target, 4)["CurrentCapacity"] == 4
    assert not_scaled_details(NotScaled.FLAPPING, target, 4) == {
        "Code": "AutoScalingAnticipatedFlapping"
    }


@pytest.mark.parametrize(
    ("suspended", "policies", "is_done"),
    [
        (SuspendedState(scale_out=True), [high(250.0)], False),
        (SuspendedState(scale_in=True), [high(250.0)], True),
        (SuspendedState(scale_in=True), [low(10.0)], False),
        (SuspendedState(scale_in=True), [low(95.0)], False),
        (SuspendedState(scale_out=True), [low(10.0)], True),
    ],
)
def test_what_is_suspended_is_not_done_nor_spoken_of(suspended, policies, is_done):
    decision = decide(a_target(suspended=suspended), 4, policies, NOW)
    assert (decision is not None) is is_done


@pytest.mark.parametrize(
    ("cooling", "policies", "expected"),
    [
        pytest.param(Cooling(out_at=ago(100), out_added=2), [high(150.0)], None, id="all is added"),
        pytest.param(Cooling(out_at=ago(100), out_added=2), [high(200.0)], 6, id="the excess is"),
        pytest.param(Cooling(out_at=ago(300), out_added=2), [high(150.0)], 6, id="it is over"),
        pytest.param(
            Cooling(out_at=ago(100), out_added=2), [high(150.0, out_cooldown_s=60)], 6,
            id="of this policy it is over",
        ),
        pytest.param(
            Cooling(out_at=ago(100), out_added=2), [stepping(150.0, (0, None, 3))], 5,
            id="AWS's example: 2 were added, now 3",
        ),
        pytest.param(
            Cooling(out_at=ago(100), out_added=2),
            [stepping(150.0, (0, None, 7), adjustment_type="ExactCapacity")], 7,
            id="an exact capacity is no addition",
        ),
        pytest.param(Cooling(out_at=ago(100), out_added=2), [low(20.0)], 1, id="in all the same"),
        pytest.param(Cooling(in_at=ago(100)), [low(20.0)], None, id="no further in"),
        pytest.param(Cooling(in_at=ago(300)), [low(20.0)], 1, id="in again"),
        pytest.param(Cooling(in_at=ago(100)), [high(150.0)], 6, id="out at any time"),
        pytest.param(Cooling(in_at=ago(-100)), [low(20.0)], 1, id="a clock that was put back"),
    ],
)  # fmt: skip
def test_cooldowns(cooling, policies, expected):
    decision = decide(a_target(cooling=cooling), 4, policies, NOW)
    assert (decision.capacity if decision else None) == expected


def test_what_is_added_within_a_cooldown_adds_up():
    first = cooled(Cooling(in_at=ago(10)), previous=2, capacity=4, cooldown_s=300, at=ago(200))
    assert first == Cooling(out_at=ago(200), out_added=2)
    second = cooled(first, previous=4, capacity=5, cooldown_s=300, at=NOW)
    assert second == Cooling(out_at=NOW, out_added=3)
    later = cooled(first, previous=4, capacity=5, cooldown_s=100, at=NOW)
    assert later == Cooling(out_at=NOW, out_added=1)
    assert cooled(second, previous=5, capacity=3, cooldown_s=300, at=NOW) == Cooling(in_at=NOW)


@pytest.mark.parametrize(
    ("value", "above", "expected"),
    [
        pytest.param(100.0, True, 1, id="lower bound is in"),
        pytest.param(109.9, True, 1),
        pytest.param(110.0, True, 2, id="upper bound is out"),
        pytest.param(1e12, True, 2),
        pytest.param(float("inf"), True, 2),
        pytest.param(99.0, True, None),
        pytest.param(100.0, False, -1, id="below: upper bound is in"),
        pytest.param(90.1, False, -1),
        pytest.param(90.0, False, -2, id="below: lower bound is out"),
        pytest.param(-1e12, False, -2),
        pytest.param(None, True, None),
    ],
)
def test_the_step_that_a_value_falls_into(value, above, expected):
    rule = steps((0, 10, 1), (10, None, 2)) if above else steps((-10, 0, -1), (None, -10, -2))
    assert find_adjustment(rule, a_call(value, above=above)) == expected


@pytest.mark.parametrize(
    ("kind", "capacity", "adjustment", "magnitude", "expected"),
    [
        ("ChangeInCapacity", 3, 2, 0, 5),
        ("ChangeInCapacity", 3, -9, 0, 0),
        ("ExactCapacity", 3, 7, 0, 7),
        pytest.param("PercentChangeInCapacity", 10, 25, 0, 12, id="more than 1: down"),
        pytest.param("PercentChangeInCapacity", 3, 10, 0, 4, id="0 to 1: 1"),
        pytest.param("PercentChangeInCapacity", 3, -10, 0, 2, id="0 to -1: -1"),
        pytest.param("PercentChangeInCapacity", 9, -30, 0, 7, id="less than -1: towards 0"),
        pytest.param("PercentChangeInCapacity", 10, 30, 0, 13, id="exactly"),
        pytest.param("PercentChangeInCapacity", 10, 10, 3, 13, id="at least so much"),
        pytest.param("PercentChangeInCapacity", 10, -10, 3, 7, id="at least so much in"),
        pytest.param("PercentChangeInCapacity", 0, 50, 2, 0, id="of nothing it is nothing"),
    ],
)
def test_adjustments(kind, capacity, adjustment, magnitude, expected):
    rule = StepScaling(adjustment_type=kind, steps=(), min_magnitude=magnitude)
    assert adjust(rule, capacity, adjustment) == expected


VALUES = st.floats(0, 1e6, allow_nan=False)
CAPACITIES = st.integers(0, 200)


@settings(deadline=None)
@given(CAPACITIES, VALUES, st.floats(1.0, 1e6))
def test_tracking_takes_the_least_that_keeps_the_target(capacity, value, target):
    wanted = track(capacity, value, target)
    assume(capacity > 0)
    load = capacity * value
    assert wanted * target >= load * (1 - 1e-6) - 1e-9
    assert wanted == 0 or (wanted - 1) * target <= load * (1 + 1e-6)


@settings(deadline=None)
@given(CAPACITIES, st.lists(VALUES, min_size=2, max_size=2).map(sorted), st.floats(0.01, 1e6))
def test_tracking_is_monotone(capacity, values, target):
    smaller, larger = (track(capacity, value, target) for value in values)
    assert smaller <= larger


@st.composite
def views(draw):
    made = []
    for number in range(draw(st.integers(1, 4))):
        name = f"p{number}"
        value = draw(st.one_of(VALUES, st.just(float("inf")), st.none()))
        kind = draw(st.sampled_from(["high", "low", "between", "step out", "step in"]))
        if kind == "high":
            made.append(high(value, name=name))
        elif kind == "low":
            made.append(low(value, name=name, may_scale_in=draw(st.booleans())))
        elif kind == "between":
            made.append(between(name, draw(st.sampled_from(list(Watch)))))
        else:
            made.append(
                stepping(
                    value,
                    (0, None, draw(st.integers(0, 1000)))
                    if kind == "step out"
                    else (None, 0, draw(st.integers(-1000, 0))),
                    above=kind == "step out",
                    name=name,
                    adjustment_type=draw(
                        st.sampled_from(["ChangeInCapacity", "PercentChangeInCapacity"])
                    ),
                )
            )
    return made


TIMES = st.one_of(st.none(), st.integers(-1000, 1000).map(ago))
COOLINGS = st.builds(Cooling, out_at=TIMES, out_added=st.integers(0, 50), in_at=TIMES)


@settings(deadline=None)
@given(CAPACITIES, st.tuples(CAPACITIES, CAPACITIES).map(sorted), views(), COOLINGS)
def test_a_decision_never_leaves_the_bounds(capacity, bounds, policies, cooling):
    target = a_target(*bounds, cooling=cooling)
    decision = decide(target, capacity, policies, NOW)
    if decision is None or decision.reason is not None:
        assert decision is None or decision.capacity == capacity
        return
    assert decision.capacity != capacity
    assert target.min_capacity <= decision.capacity <= target.max_capacity
    free = decide(replace(target, cooling=Cooling()), capacity, policies, NOW)
    assert free is not None
    assert free.capacity >= decision.capacity, "a cooldown never adds"


@settings(deadline=None)
@given(CAPACITIES, st.tuples(CAPACITIES, CAPACITIES).map(sorted), views())
def test_another_policy_that_wants_out_never_makes_it_less(capacity, bounds, policies):
    target = a_target(*bounds)
    without = decide(target, capacity, policies, NOW)
    more = decide(target, capacity, [*policies, high(500.0, name="another")], NOW)
    before = without.capacity if without and without.reason is None else capacity
    after = more.capacity if more and more.reason is None else capacity
    assert after >= min(before, capacity)
    if before >= capacity:
        assert after >= before


@settings(deadline=None)
@given(CAPACITIES.filter(lambda n: n > 0), VALUES)
def test_what_was_scaled_in_does_not_scale_out_at_the_same_load(capacity, value):
    decision = decide(a_target(1, 500), capacity, [low(min(value, 89.0))], NOW)
    if decision is None or decision.reason is not None:
        return
    after = capacity * min(value, 89.0) / decision.capacity
    assert after <= 100.0 * (1 + 1e-6)
