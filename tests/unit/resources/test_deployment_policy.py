from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.errors import InvalidRequest
from clary.resources.deployment_policy import (
    WHOLE,
    CapacitySize,
    DeploymentPolicy,
    Strategy,
    check_policy,
    parse_policy,
)


def percent(value: int) -> CapacitySize:
    return CapacitySize(is_percent=True, value=value)


def count(value: int) -> CapacitySize:
    return CapacitySize(is_percent=False, value=value)


def blue_green(kind: str, **members: Any) -> dict[str, Any]:
    routing = {"Type": kind, "WaitIntervalInSeconds": 60}
    routing.update({k: members.pop(k) for k in ("CanarySize", "LinearStepSize") if k in members})
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing, **members}}


def size(value: int, kind: str = "CAPACITY_PERCENT") -> dict[str, Any]:
    return {"Type": kind, "Value": value}


@pytest.mark.parametrize(
    ("config", "policy"),
    [
        pytest.param(None, DeploymentPolicy(), id="none: all at once"),
        pytest.param(
            blue_green("ALL_AT_ONCE", TerminationWaitInSeconds=5),
            DeploymentPolicy(wait_s=60, termination_wait_s=5),
            id="all at once",
        ),
        pytest.param(
            blue_green("CANARY", CanarySize=size(10), MaximumExecutionTimeoutInSeconds=600),
            DeploymentPolicy(strategy=Strategy.CANARY, size=percent(10), wait_s=60, timeout_s=600),
            id="canary",
        ),
        pytest.param(
            blue_green("LINEAR", LinearStepSize=size(2, "INSTANCE_COUNT")),
            DeploymentPolicy(strategy=Strategy.LINEAR, size=count(2), wait_s=60),
            id="linear by instances",
        ),
        pytest.param(
            {
                "RollingUpdatePolicy": {
                    "MaximumBatchSize": size(5),
                    "WaitIntervalInSeconds": 1,
                    "RollbackMaximumBatchSize": size(100),
                },
                "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "a"}, {"AlarmName": "b"}]},
            },
            DeploymentPolicy(
                strategy=Strategy.ROLLING,
                size=percent(5),
                wait_s=1,
                rollback_size=WHOLE,
                alarms=("a", "b"),
            ),
            id="rolling with alarms",
        ),
        pytest.param(
            {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "a"}]}},
            DeploymentPolicy(alarms=("a",)),
            id="alarms alone",
        ),
    ],
)
def test_a_policy_is_read(config: dict[str, Any] | None, policy: DeploymentPolicy) -> None:
    assert parse_policy(config) == policy


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (blue_green("CANARY"), "CanarySize is required"),
        (blue_green("LINEAR"), "LinearStepSize is required"),
        (blue_green("CANARY", CanarySize=size(51)), "between 1% and 50%"),
        (blue_green("LINEAR", LinearStepSize=size(9)), "between 10% and 50%"),
        (blue_green("ALL_AT_ONCE", CanarySize=size(10)), "cannot be given"),
        (
            blue_green("CANARY", CanarySize=size(9), LinearStepSize=size(10)),
            "LinearStepSize cannot be given",
        ),
        (
            {
                "RollingUpdatePolicy": {
                    "MaximumBatchSize": size(4),
                    "WaitIntervalInSeconds": 0,
                }
            },
            "between 5% and 50%",
        ),
        (
            {
                **blue_green("ALL_AT_ONCE"),
                "RollingUpdatePolicy": {
                    "MaximumBatchSize": size(5),
                    "WaitIntervalInSeconds": 0,
                },
            },
            "Only one update policy",
        ),
        (
            {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "a"}, {"AlarmName": "a"}]}},
            "must be unique",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        parse_policy(config)


@pytest.mark.parametrize(
    ("policy", "totals", "words"),
    [
        pytest.param(
            DeploymentPolicy(strategy=Strategy.CANARY, size=count(3)),
            {"A": 6, "B": 5},
            'more than 50% of the 5 instance\\(s\\) of variant "B"',
            id="too large for one of two variants",
        ),
        pytest.param(
            DeploymentPolicy(strategy=Strategy.LINEAR, size=percent(25), wait_s=200, timeout_s=600),
            {"A": 4},
            "alone take 800 seconds",
            id="waits longer than it may take",
        ),
    ],
)
def test_what_a_fleet_cannot_keep_is_refused(
    policy: DeploymentPolicy, totals: dict[str, int], words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        check_policy(policy, totals)


def test_one_instance_is_never_too_many() -> None:
    check_policy(DeploymentPolicy(strategy=Strategy.ROLLING, size=count(1)), {"A": 1})


@pytest.mark.parametrize(
    ("policy", "total", "shares"),
    [
        (DeploymentPolicy(), 3, [1.0]),
        (DeploymentPolicy(strategy=Strategy.CANARY, size=percent(10)), 1, [0.1, 1.0]),
        (DeploymentPolicy(strategy=Strategy.CANARY, size=count(1)), 4, [0.25, 1.0]),
        (DeploymentPolicy(strategy=Strategy.LINEAR, size=percent(40)), 2, [0.4, 0.8, 1.0]),
        (DeploymentPolicy(strategy=Strategy.LINEAR, size=count(2)), 5, [0.4, 0.8, 1.0]),
        (DeploymentPolicy(strategy=Strategy.ROLLING, size=percent(30)), 4, [0.5, 1.0]),
        (DeploymentPolicy(strategy=Strategy.ROLLING, size=percent(5)), 0, [1.0]),
    ],
)
def test_the_shares_of_the_steps(policy: DeploymentPolicy, total: int, shares: list[float]) -> None:
    steps = policy.steps([total])
    assert [policy.share(step, total) for step in range(1, steps + 1)] == pytest.approx(shares)
    assert policy.share(0, total) == 0


@pytest.mark.parametrize(
    ("strategy", "bakes"),
    [
        (Strategy.ALL_AT_ONCE, [9]),
        (Strategy.CANARY, [5, 9]),
        (Strategy.LINEAR, [5, 14]),
        (Strategy.ROLLING, [5, 5]),
    ],
)
def test_how_long_is_watched_after_each_step(strategy: Strategy, bakes: list[int]) -> None:
    policy = DeploymentPolicy(strategy=strategy, size=percent(50), wait_s=5, termination_wait_s=9)
    steps = policy.steps([2])
    assert [policy.bake_s(step, steps) for step in range(1, steps + 1)] == bakes


sizes = st.one_of(st.builds(percent, st.integers(5, 50)), st.builds(count, st.integers(1, 20)))
policies = st.builds(DeploymentPolicy, strategy=st.sampled_from(Strategy), size=sizes)


@given(policies, st.integers(0, 40), st.integers(1, 40))
def test_no_step_has_less_than_the_whole(policy: DeploymentPolicy, old: int, new: int) -> None:
    """While a step's instances are launched, those before it and the old ones carry everything."""
    steps = policy.steps([new])
    shares = [policy.share(step, new) for step in range(steps + 1)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert policy.new_instances(steps, new) == new
    for step in range(1, steps + 1):
        assert policy.old_instances(step, old, new) >= old * (1 - shares[step - 1]) - 1e-9
        assert policy.new_instances(step, new) >= new * shares[step] - 1e-9
