"""Rolling updates: batches, bakes, and what calls them off."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from builders import A_TIME, a_component, a_spec
from clary.control.component_rollout import Rollout, plan_rollout
from clary.resources.inference_component import ComponentUpdate, RollingPolicy


def config(type: str = "COPY_COUNT", value: int = 2, wait_s: int = 30, **more: Any) -> Any:
    policy = {
        "MaximumBatchSize": {"Type": type, "Value": value},
        "WaitIntervalInSeconds": wait_s,
        **more,
    }
    return {
        "RollingUpdatePolicy": policy,
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]},
    }


def rollout(
    *,
    healthy: int,
    batch: int = 1,
    baking_s: float | None = None,
    age_s: float = 60,
    policy: Any = None,
    alarm: str = "OK",
    failure: str | None = None,
) -> Rollout:
    update = ComponentUpdate(
        old=a_spec(),
        old_revision=1,
        started_at=A_TIME - timedelta(seconds=age_s),
        batch=batch,
        baking_since=None if baking_s is None else A_TIME - timedelta(seconds=baking_s),
    )
    component = a_component(
        desired_copies=5, revision=2, deployment_config=policy or config(), update=update
    )
    alarms = {"errors": SimpleNamespace(value=alarm, reason="too many")}
    return plan_rollout(
        component, update, healthy=healthy, failure=failure, alarms=alarms, now=A_TIME
    )


@pytest.mark.parametrize(
    ("given", "new", "old", "batch"),
    [
        pytest.param({"healthy": 0}, 2, 5, 1, id="first-batch-starts"),
        pytest.param({"healthy": 1}, 2, 5, 1, id="half-of-it"),
        pytest.param({"healthy": 2, "baking_s": 10}, 2, 5, 1, id="bakes-beside-all-old-ones"),
        pytest.param({"healthy": 2, "baking_s": 30}, 2, 3, 2, id="baked"),
        pytest.param({"healthy": 2, "batch": 2}, 4, 3, 2, id="second-batch-starts"),
        pytest.param({"healthy": 4, "batch": 3}, 5, 1, 3, id="last-batch-is-smaller"),
        pytest.param({"healthy": 5, "batch": 3, "baking_s": 30}, 5, 0, None, id="over"),
    ],
)
def test_batches(given: dict[str, Any], new: int, old: int, batch: int | None) -> None:
    result = rollout(**given)
    assert (result.new_copies, result.old_copies) == (new, old)
    assert (None if result.update is None else result.update.batch) == batch
    assert result.why_given_up is None


def test_a_bake_begins_when_the_batch_is_there() -> None:
    result = rollout(healthy=2)
    assert result.update is not None
    assert result.update.baking_since == A_TIME


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"failure": "It raised."}, "The update failed: It raised."),
        ({"alarm": "ALARM"}, 'The update failed: alarm "errors" is in ALARM: too many'),
        (
            {"age_s": 601, "policy": config(MaximumExecutionTimeoutInSeconds=600)},
            "The update failed: it took longer than MaximumExecutionTimeoutInSeconds, 600 s.",
        ),
    ],
    ids=["a-copy-fails", "an-alarm", "the-time"],
)
def test_what_calls_an_update_off(given: dict[str, Any], words: str) -> None:
    result = rollout(healthy=1, **given)
    assert (result.new_copies, result.old_copies, result.update) == (0, 5, None)
    assert result.why_given_up == words


@pytest.mark.parametrize(
    ("policy", "copies", "expected"),
    [
        (None, 7, 7),
        (None, 0, 1),
        (config("CAPACITY_PERCENT", 50), 5, 3),
        (config("CAPACITY_PERCENT", 5), 5, 1),
        (config("COPY_COUNT", 2), 5, 2),
    ],
    ids=["all-at-once", "of-none", "half-rounded-up", "at-least-one", "by-count"],
)
def test_batch_sizes(policy: Any, copies: int, expected: int) -> None:
    assert RollingPolicy.parse(policy).batch(copies) == expected
