from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from builders import (
    A_TIME,
    a_container,
    a_model,
    a_variant,
    a_variant_state,
    an_endpoint_config,
)
from clary.control.deployment_plan import ALARM_CHECK_S, Standing
from clary.control.endpoint_plan import Plan, StartLimits, plan_endpoint
from clary.control.instances import AddInstance, KnownInstance, RemoveInstance, StopInstance
from clary.fleet.launchers.base import InstanceState
from clary.resources.endpoint import (
    DeploymentPhase,
    Endpoint,
    EndpointEvent,
    EndpointStatus,
    Progress,
)
from clary.resources.endpoint_config import EndpointConfig
from deployments import NEW, OLD, alarmed, an_update, canary, fleet_of, rolling, seen

LIMITS = StartLimits(startup_timeout_s=480, download_timeout_s=3600)
LAUNCHING, ACTIVATING, BAKING = DeploymentPhase
ROLLING_BACK = EndpointStatus.ROLLING_BACK
STUCK = EndpointStatus.UPDATE_ROLLBACK_FAILED
FAILED, STARTING, LOST = InstanceState.FAILED, InstanceState.STARTING, InstanceState.LOST


@dataclass(frozen=True)
class Alarm:
    value: str
    reason: str = "Threshold Crossed: 1 datapoint [7.0] was greater than the threshold (5.0)."


def plan(
    endpoint: Endpoint, instances: list[KnownInstance], age_s: float = 0.0, **standing: Any
) -> Plan:
    return plan_endpoint(
        endpoint,
        instances,
        now=A_TIME + timedelta(seconds=age_s),
        limits=LIMITS,
        standing=Standing(**{"age_s": age_s, "progress_age_s": age_s, **standing}),
    )


def shares(result: Plan) -> dict[str, tuple[float, int]]:
    """Weight and number of instances of each fleet, by its configuration."""
    assert result.route is not None
    return {v.config_name: (v.weight, len(v.instances)) for v in result.route.variants}


def at(phase: DeploymentPhase, step: int = 1, back: int = 0) -> Progress:
    return Progress(phase=phase, step=step, rollback_step=back)


def stopped(result: Plan) -> list[str]:
    return [action.id for action in result.actions if isinstance(action, StopInstance)]


@pytest.mark.parametrize(
    ("policy", "progress", "new", "age_s", "expected", "following"),
    [
        pytest.param(
            None, at(LAUNCHING), [], 0, {"old": (1, 2), "new": (0, 0)}, None, id="nothing yet"
        ),
        pytest.param(
            None,
            at(LAUNCHING),
            fleet_of(1, NEW),
            0,
            {"old": (1, 2), "new": (0, 1)},
            None,
            id="half is there: no traffic yet",
        ),
        pytest.param(
            None,
            at(LAUNCHING),
            fleet_of(2, NEW),
            0,
            {"old": (1, 2), "new": (0, 2)},
            at(ACTIVATING),
            id="all are there",
        ),
        pytest.param(
            None,
            at(ACTIVATING),
            fleet_of(2, NEW),
            0,
            {"old": (0, 2), "new": (1, 2)},
            at(BAKING),
            id="all traffic at once; the old ones stand by",
        ),
        pytest.param(
            canary(),
            at(ACTIVATING),
            fleet_of(2, NEW),
            0,
            {"old": (0.5, 2), "new": (0.5, 1)},
            at(BAKING),
            id="canary of one instance",
        ),
        pytest.param(
            canary(10),
            at(BAKING),
            fleet_of(2, NEW),
            59,
            {"old": (0.9, 2), "new": (0.1, 1)},
            None,
            id="canary bakes: a tenth of the traffic on one instance",
        ),
        pytest.param(
            canary(),
            at(BAKING),
            fleet_of(2, NEW),
            60,
            {"old": (0.5, 2), "new": (0.5, 1)},
            at(ACTIVATING, 2),
            id="canary has baked",
        ),
        pytest.param(
            canary(),
            at(BAKING),
            fleet_of(1, NEW),
            60,
            {"old": (0.5, 2), "new": (0.5, 1)},
            None,
            id="canary has baked, but one of the new fleet was lost meanwhile",
        ),
        pytest.param(
            rolling(),
            at(LAUNCHING),
            fleet_of(1, NEW),
            0,
            {"old": (1, 2), "new": (0, 1)},
            at(ACTIVATING),
            id="first batch is there",
        ),
        pytest.param(
            rolling(),
            at(BAKING),
            fleet_of(1, NEW),
            60,
            {"old": (0.5, 2), "new": (0.5, 1)},
            at(LAUNCHING, 2),
            id="first batch has baked",
        ),
        pytest.param(
            rolling(),
            at(LAUNCHING, 2),
            fleet_of(1, NEW),
            0,
            {"old": (0.5, 1), "new": (0.5, 1)},
            None,
            id="first batch of old ones stops when the second of new ones is launched",
        ),
    ],
)
def test_how_traffic_moves(
    policy: dict[str, Any] | None,
    progress: Progress,
    new: list[KnownInstance],
    age_s: float,
    expected: dict[str, tuple[float, int]],
    following: Progress | None,
) -> None:
    result = plan(an_update(policy, progress=progress), [*fleet_of(2, OLD), *new], age_s)
    assert shares(result) == expected
    assert result.progress == following
    assert result.event is None


def test_a_new_fleet_is_started_beside_the_old_one() -> None:
    result = plan(an_update(new=3), fleet_of(2, OLD))
    assert list(result.actions) == [AddInstance("AllTraffic", NEW)] * 3


def test_a_rolling_update_starts_one_batch_and_stops_one() -> None:
    endpoint = an_update(rolling(), progress=at(LAUNCHING, 2))
    result = plan(endpoint, [*fleet_of(2, OLD), *fleet_of(1, NEW)])
    assert list(result.actions) == [
        StopInstance("i-1-1", drains=True),
        AddInstance("AllTraffic", NEW),
    ]


def test_at_the_end_of_the_last_bake_the_new_fleet_is_the_endpoint() -> None:
    endpoint = an_update(canary(), progress=at(BAKING, 2))
    instances = [*fleet_of(2, OLD), *fleet_of(2, NEW)]
    assert plan(endpoint, instances, 29).check_again_in_s == pytest.approx(1)
    assert plan(endpoint, instances, 29).event is None
    assert plan(endpoint, instances, 30).event is EndpointEvent.READY


def test_what_belongs_to_no_fleet_any_more_drains_and_stops() -> None:
    updated = replace(an_update(), deployment=None, fleet=NEW, status=EndpointStatus.IN_SERVICE)
    result = plan(updated, [*fleet_of(2, OLD), *fleet_of(2, NEW)])
    assert list(result.actions) == [StopInstance(f"i-1-{n}", drains=True) for n in range(2)]
    assert shares(result) == {"old": (1.0, 2)}  # the configuration of this test's endpoint


@pytest.mark.parametrize("phase", DeploymentPhase)
@pytest.mark.parametrize(
    ("alarm", "words"),
    [
        (Alarm("ALARM"), 'alarm "errors" is in state ALARM. Threshold Crossed: 1 datapoint [7.0]'),
        (None, 'alarm "errors" of its AutoRollbackConfiguration was deleted'),
    ],
)
def test_an_alarm_calls_it_off_at_any_time(
    phase: DeploymentPhase, alarm: Alarm | None, words: str
) -> None:
    endpoint = an_update({**canary(), **alarmed("errors")}, progress=at(phase))
    alarms = {} if alarm is None else {"errors": alarm}
    result = plan(endpoint, [*fleet_of(2, OLD), *fleet_of(2, NEW)], alarms=alarms)
    assert result.event is EndpointEvent.GAVE_UP
    assert words in (result.failure_reason or "")
    assert result.progress is None


@pytest.mark.parametrize("value", ["OK", "INSUFFICIENT_DATA"])
def test_other_states_of_an_alarm_let_it_go_on(value: str) -> None:
    endpoint = an_update({**canary(), **alarmed("errors")}, progress=at(BAKING))
    instances = [*fleet_of(2, OLD), *fleet_of(2, NEW)]
    waiting = plan(endpoint, instances, 10, alarms={"errors": Alarm(value)})
    assert waiting.event is None
    assert waiting.check_again_in_s == ALARM_CHECK_S
    assert plan(endpoint, instances, 60, alarms={"errors": Alarm(value)}).progress == at(
        ACTIVATING, 2
    )


def test_an_instance_that_cannot_start_calls_it_off() -> None:
    result = plan(an_update(), [*fleet_of(2, OLD), seen("i-new", NEW, FAILED)])
    assert (result.event, result.failure_reason) == (EndpointEvent.GAVE_UP, "i-new is ill.")


def test_a_broken_instance_of_the_old_fleet_does_not() -> None:
    broken = [seen("i-old", OLD), seen("i-bad", OLD, FAILED)]
    result = plan(an_update(), [*broken, *fleet_of(2, NEW)], 60)
    assert result.event is None
    assert result.progress == at(ACTIVATING)


@pytest.mark.parametrize(
    ("phase", "age_s", "event"),
    [(LAUNCHING, 4081, EndpointEvent.GAVE_UP), (LAUNCHING, 4000, None), (BAKING, 9000, None)],
)
def test_a_lost_instance_is_replaced_for_as_long_as_a_start_may_take(
    phase: DeploymentPhase, age_s: float, event: EndpointEvent | None
) -> None:
    endpoint = an_update(progress=at(phase))
    new = [seen("i-new", NEW), seen("i-lost", NEW, LOST)]
    result = plan(endpoint, [*fleet_of(2, OLD), *new], age_s)
    assert result.event is event
    assert stopped(result) == ([] if event else ["i-lost"])


def test_it_may_only_take_so_long() -> None:
    endpoint = an_update(canary(), progress=at(BAKING))
    instances = [*fleet_of(2, OLD), *fleet_of(2, NEW)]
    assert plan(endpoint, instances, 600).event is None
    late = plan(endpoint, instances, 601)
    assert late.event is EndpointEvent.GAVE_UP
    assert "MaximumExecutionTimeoutInSeconds, which is 600" in (late.failure_reason or "")


def test_a_configuration_that_this_server_cannot_run_is_given_up_at_once() -> None:
    endpoint = an_update()
    assert endpoint.deployment is not None
    both = a_model(containers=(a_container(mode="MultiModel"), a_container()))
    models = dict.fromkeys(endpoint.deployment.models, both)
    endpoint = replace(endpoint, deployment=replace(endpoint.deployment, models=models))
    result = plan(endpoint, fleet_of(2, OLD))
    assert result.event is EndpointEvent.GAVE_UP
    assert "multi-model" in (result.failure_reason or "")


# The way back ---------------------------------------------------------------------------------


def test_blue_green_goes_back_at_once() -> None:
    endpoint = an_update(canary(), status=ROLLING_BACK, progress=at(BAKING, 2, back=1))
    result = plan(endpoint, [*fleet_of(2, OLD), *fleet_of(2, NEW)])
    assert shares(result) == {"old": (1, 2), "new": (0, 2)}
    assert result.event is EndpointEvent.READY


@pytest.mark.parametrize(
    ("rollback", "back", "old", "expected", "following", "event"),
    [
        pytest.param(
            None, 1, 2, {"old": (0.5, 2), "new": (0.5, 2)}, None, None, id="all at once: launched"
        ),
        pytest.param(
            None,
            1,
            4,
            {"old": (0.5, 4), "new": (0.5, 2)},
            at(LAUNCHING, 3, back=2),
            None,
            id="all at once: there",
        ),
        pytest.param(
            None,
            2,
            4,
            {"old": (1.0, 4), "new": (0.0, 0)},
            None,
            EndpointEvent.READY,
            id="all at once: done",
        ),
        pytest.param(
            1,
            1,
            3,
            {"old": (0.5, 3), "new": (0.5, 2)},
            at(LAUNCHING, 3, back=2),
            None,
            id="one by one: the first is there",
        ),
        pytest.param(
            1,
            2,
            3,
            {"old": (0.75, 3), "new": (0.25, 1)},
            None,
            None,
            id="one by one: the second is launched, and a new one stops",
        ),
    ],
)
def test_a_rolling_update_goes_back_batch_by_batch(
    rollback: int | None,
    back: int,
    old: int,
    expected: dict[str, tuple[float, int]],
    following: Progress | None,
    event: EndpointEvent | None,
) -> None:
    endpoint = an_update(
        rolling(rollback=rollback),
        old=4,
        new=4,
        status=ROLLING_BACK,
        progress=at(LAUNCHING, 3, back=back),
    )
    result = plan(endpoint, [*fleet_of(old, OLD), *fleet_of(3, NEW)])
    assert shares(result) == expected
    assert (result.progress, result.event) == (following, event)


def test_a_way_back_that_fails_leaves_a_mix_that_serves() -> None:
    back = an_update(
        rolling(), old=4, new=4, status=ROLLING_BACK, progress=at(LAUNCHING, 3, back=1)
    )
    later = A_TIME + timedelta(seconds=5)
    instances = [
        *fleet_of(2, OLD),
        seen("i-ill", OLD, FAILED, created_at=later),
        *fleet_of(2, NEW),
    ]
    result = plan(back, instances, 6)
    assert (result.event, result.failure_reason) == (EndpointEvent.GAVE_UP, "i-ill is ill.")

    stuck = plan(replace(back, status=STUCK), instances, 60)
    assert shares(stuck) == {"old": (0.5, 2), "new": (0.5, 2)}
    assert (stuck.event, stuck.progress) == (None, None)
    assert stopped(stuck) == ["i-ill"]


def test_an_update_after_that_keeps_what_serves_until_it_has_ended() -> None:
    """Instances of the fleet that was left behind are never started again, but they do serve."""
    endpoint = an_update(old=2, new=1, guest_fleet=7)
    instances = [seen("i-old", OLD), seen("i-guest", 7), seen("i-gone", 7, None)]
    result = plan(endpoint, instances)
    assert shares(result) == {"old": (1, 2), "new": (0, 0)}
    assert list(result.actions) == [AddInstance("AllTraffic", NEW), RemoveInstance("i-gone")]


# Variants -------------------------------------------------------------------------------------


def test_variants_that_only_one_fleet_has_move_alike() -> None:
    endpoint = an_update(canary(), names=("before", "after"), progress=at(BAKING))
    instances = [
        *fleet_of(2, OLD, variant="before"),
        *[replace(i, record=replace(i.record, variant_name="after")) for i in fleet_of(2, NEW)],
    ]
    result = plan(endpoint, instances)
    assert result.route is not None
    assert [(v.name, v.weight, v.share) for v in result.route.variants] == [
        ("before", 0.5, 0.5),
        ("after", 0.5, 0.5),
    ]


def test_weights_of_both_fleets_are_made_comparable() -> None:
    endpoint = an_update(canary(20), progress=at(BAKING), old=2)
    old = (a_variant("a"), a_variant("b"))
    endpoint = replace(
        endpoint,
        config=an_endpoint_config("old", variants=old),
        variants=(
            a_variant_state("a", desired_weight=30.0),
            a_variant_state("b", desired_weight=10.0),
        ),
    )
    result = plan(endpoint, [])
    assert result.route is not None
    assert [(v.name, v.weight) for v in result.route.variants] == [
        ("a", pytest.approx(0.6)),
        ("b", pytest.approx(0.2)),
        ("AllTraffic", pytest.approx(0.2)),
    ]


@pytest.mark.parametrize(
    ("phase", "config_name", "weight"), [(LAUNCHING, "old", 0.5), (ACTIVATING, "new", 0.25)]
)
def test_the_shadow_is_that_of_the_fleet_with_the_traffic(
    phase: DeploymentPhase, config_name: str, weight: float
) -> None:
    endpoint = an_update(progress=at(phase))
    assert endpoint.deployment is not None
    shadow = a_variant("shadow")
    endpoint = replace(
        endpoint,
        config=replace(endpoint.config, shadow_variants=(shadow,)),
        shadow_variants=(a_variant_state("shadow", desired_weight=0.5),),
        deployment=replace(
            endpoint.deployment,
            config=replace(endpoint.deployment.config, shadow_variants=(shadow,)),
            variants=(
                a_variant_state("AllTraffic", desired_count=2, desired_weight=2.0),
                a_variant_state("shadow", desired_weight=0.5),
            ),
        ),
    )
    result = plan(endpoint, [seen("i-shadow", NEW, variant="shadow")])
    assert result.route is not None
    assert result.route.shadow is not None
    assert result.route.shadow.config_name == config_name
    assert result.route.shadow.weight == pytest.approx(weight)


def test_counts_of_both_fleets_are_told() -> None:
    result = plan(an_update(), [*fleet_of(2, OLD), *fleet_of(1, NEW)])
    assert [state.current_count for state in result.variants] == [2]
    assert [state.current_count for state in result.pending] == [1]


@pytest.mark.parametrize(
    ("phase", "step", "bucket"), [(BAKING, 1, "s3://old"), (ACTIVATING, 2, "s3://new")]
)
def test_calls_are_captured_as_the_old_fleet_says_until_it_has_no_traffic(
    phase: DeploymentPhase, step: int, bucket: str
) -> None:
    endpoint = an_update(canary(), progress=at(phase, step))
    assert endpoint.deployment is not None

    def captured(config: EndpointConfig, url: str) -> EndpointConfig:
        capture = {
            "EnableCapture": True,
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": url,
            "CaptureOptions": [{"CaptureMode": "Input"}],
        }
        return replace(config, definition={"DataCaptureConfig": capture})

    endpoint = replace(
        endpoint,
        config=captured(endpoint.config, "s3://old"),
        deployment=replace(
            endpoint.deployment, config=captured(endpoint.deployment.config, "s3://new")
        ),
    )
    route = plan(endpoint, []).route
    assert route is not None
    assert route.capture is not None
    assert bucket in repr(route.capture)
