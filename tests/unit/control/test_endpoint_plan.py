from dataclasses import replace
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
    an_instance,
)
from clary.control.endpoint_plan import Plan, StartLimits, plan_endpoint
from clary.control.instances import (
    AddInstance,
    KnownInstance,
    RemoveInstance,
    StartInstance,
    StopInstance,
)
from clary.fleet.instance import ObservedInstance
from clary.fleet.launchers.base import InstanceState
from clary.resources.endpoint import MAX_FAILURE_REASON, Endpoint, EndpointEvent, EndpointStatus
from clary.resources.routing_table import ContainerRoute, EndpointRoute

LIMITS = StartLimits(startup_timeout_s=480, download_timeout_s=3600)
WORKER = "unix:/w0.sock"
CREATING = EndpointStatus.CREATING
IN_SERVICE = EndpointStatus.IN_SERVICE
UPDATING = EndpointStatus.UPDATING
READY, GAVE_UP = EndpointEvent.READY, EndpointEvent.GAVE_UP


def an_endpoint(
    status: EndpointStatus = CREATING, *, count: int = 1, names: tuple[str, ...] = ("AllTraffic",)
) -> Endpoint:
    return Endpoint(
        name="digits",
        arn="arn",
        status=status,
        generation=1,
        failure_reason=None,
        config=an_endpoint_config(variants=tuple(a_variant(name) for name in names)),
        models={"digits": a_model()},
        variants=tuple(a_variant_state(name, desired_count=count) for name in names),
        created_at=A_TIME,
        modified_at=A_TIME,
    )


def seen(
    id: str = "i-1",
    state: InstanceState | None = InstanceState.HEALTHY,
    *,
    workers: tuple[str, ...] = (WORKER,),
    reason: str | None = None,
    **record: Any,
) -> KnownInstance:
    """An instance that the fleet sees in a state; None: that it does not see."""
    written = an_instance(id, **record)
    observed = None
    if state is not None:
        observed = ObservedInstance(
            id=id,
            endpoint_name="digits",
            variant_name=written.variant_name,
            state=state,
            reason=reason,
            containers=(ContainerRoute(name="primary", workers=workers),) if workers else (),
        )
    return KnownInstance(record=written, observed=observed)


def plan(endpoint: Endpoint | None, *instances: KnownInstance, age_s: float = 0.0) -> Plan:
    return plan_endpoint(endpoint, instances, now=A_TIME + timedelta(seconds=age_s), limits=LIMITS)


def routed(result: Plan) -> list[str]:
    assert result.route is not None
    return [i.id for variant in result.route.variants for i in variant.instances]


STARTING = InstanceState.STARTING
HEALTHY = InstanceState.HEALTHY
UNHEALTHY = InstanceState.UNHEALTHY
FAILED = InstanceState.FAILED
LOST = InstanceState.LOST
STOPPING = InstanceState.STOPPING


@pytest.mark.parametrize(
    ("endpoint", "instances", "age_s", "actions", "event"),
    [
        pytest.param(
            an_endpoint(count=2),
            [],
            0,
            [AddInstance("AllTraffic"), AddInstance("AllTraffic")],
            None,
            id="a new endpoint: all are missing",
        ),
        pytest.param(
            an_endpoint(names=("a", "b")),
            [],
            0,
            [AddInstance("a"), AddInstance("b")],
            None,
            id="each variant gets its own",
        ),
        pytest.param(an_endpoint(), [seen(state=STARTING)], 9, [], None, id="starting: wait"),
        pytest.param(
            an_endpoint(),
            [seen(state=None)],
            9,
            [StartInstance("i-1", "AllTraffic")],
            None,
            id="written and not started: a crash lay in between",
        ),
        pytest.param(
            an_endpoint(), [seen()], 9, [], EndpointEvent.READY, id="all healthy: in service"
        ),
        pytest.param(
            an_endpoint(count=2),
            [seen(), seen("i-2", STARTING)],
            9,
            [],
            None,
            id="one of two is not enough",
        ),
        pytest.param(
            an_endpoint(),
            [seen(workers=())],
            9,
            [],
            None,
            id="healthy by name, but no worker was probed",
        ),
        pytest.param(
            an_endpoint(),
            [seen(state=FAILED, reason="No.")],
            9,
            [],
            EndpointEvent.GAVE_UP,
            id="a failed start ends the creation",
        ),
        pytest.param(
            an_endpoint(),
            [seen(state=LOST, workers=())],
            9,
            [StopInstance("i-1"), AddInstance("AllTraffic")],
            None,
            id="lost: replaced",
        ),
        pytest.param(
            an_endpoint(),
            [seen(state=LOST, workers=(), reason="Lost.")],
            5000,
            [],
            EndpointEvent.GAVE_UP,
            id="lost, and later than any start may be",
        ),
        pytest.param(
            an_endpoint(),
            [seen(state=STOPPING, stopping=True)],
            9,
            [AddInstance("AllTraffic")],
            None,
            id="one that stops holds no place",
        ),
        pytest.param(
            an_endpoint(),
            [seen(state=HEALTHY, stopping=True)],
            9,
            [StopInstance("i-1", drains=True), AddInstance("AllTraffic")],
            None,
            id="marked, but a crash came before the stop",
        ),
        pytest.param(
            an_endpoint(IN_SERVICE), [seen()], 9, [], None, id="in service: nothing to do"
        ),
        pytest.param(
            an_endpoint(IN_SERVICE),
            [seen(state=None)],
            9,
            [StartInstance("i-1", "AllTraffic")],
            None,
            id="in service, after a new life of the server",
        ),
        pytest.param(
            an_endpoint(IN_SERVICE),
            [seen(state=UNHEALTHY)],
            9,
            [],
            None,
            id="unhealthy: its host mends it",
        ),
        pytest.param(
            an_endpoint(IN_SERVICE),
            [seen(state=LOST)],
            9,
            [AddInstance("AllTraffic")],
            None,
            id="lost, but its workers serve: stays until there is another",
        ),
        pytest.param(
            an_endpoint(IN_SERVICE),
            [seen(state=LOST), seen("i-2", STARTING)],
            9,
            [],
            None,
            id="its successor is starting",
        ),
        pytest.param(
            an_endpoint(IN_SERVICE),
            [seen(state=LOST), seen("i-2")],
            9,
            [StopInstance("i-1")],
            None,
            id="its successor is healthy",
        ),
        pytest.param(
            an_endpoint(IN_SERVICE),
            [seen(state=FAILED)],
            60,
            [StopInstance("i-1"), AddInstance("AllTraffic")],
            None,
            id="failed long after its start: replaced",
        ),
        pytest.param(
            an_endpoint(IN_SERVICE),
            [seen(state=FAILED)],
            10,
            [],
            None,
            id="failed soon after its start: not tried again at once",
        ),
        pytest.param(
            an_endpoint(IN_SERVICE),
            [seen("i-1"), seen("i-2"), seen("i-3", STARTING)],
            9,
            [StopInstance("i-3", drains=True), StopInstance("i-2", drains=True)],
            None,
            id="too many: those that do not work go first, then the newest",
        ),
        pytest.param(
            an_endpoint(IN_SERVICE),
            [seen(), seen("i-2", variant_name="old")],
            9,
            [StopInstance("i-2", drains=True)],
            None,
            id="of a variant that is not wanted",
        ),
        pytest.param(
            an_endpoint(EndpointStatus.FAILED),
            [seen(state=FAILED)],
            9,
            [StopInstance("i-1")],
            None,
            id="a failed endpoint keeps nothing",
        ),
        pytest.param(
            an_endpoint(EndpointStatus.DELETING),
            [seen(), seen("i-2", STOPPING, stopping=True), seen("i-3", None, stopping=True)],
            9,
            [StopInstance("i-1"), RemoveInstance("i-3")],
            None,
            id="deleting: each one a step further",
        ),
        pytest.param(
            None,
            [seen(), seen("i-2", None)],
            9,
            [StopInstance("i-1"), RemoveInstance("i-2")],
            None,
            id="records that outlived their endpoint",
        ),
    ],
)
def test_what_an_endpoint_needs_next(
    endpoint: Endpoint | None,
    instances: list[KnownInstance],
    age_s: float,
    actions: list[object],
    event: EndpointEvent | None,
) -> None:
    result = plan(endpoint, *instances, age_s=age_s)

    assert list(result.actions) == actions
    assert result.event == event


def test_nothing_is_routed_before_all_instances_are_healthy() -> None:
    assert plan(an_endpoint(count=2), seen(), seen("i-2", STARTING)).route is None


def test_the_route_is_there_in_the_plan_that_says_ready() -> None:
    result = plan(an_endpoint(), seen())

    assert result.event is EndpointEvent.READY
    assert routed(result) == ["i-1"]


@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        pytest.param([seen(), seen("i-2", STARTING)], ["i-1"], id="starting ones are not in it"),
        pytest.param([seen(), seen("i-2", UNHEALTHY)], ["i-1"], id="nor unhealthy ones"),
        pytest.param([seen(), seen("i-2", stopping=True)], ["i-1"], id="nor those that will stop"),
        pytest.param([seen(), seen("i-2", workers=())], ["i-1"], id="nor those without workers"),
        pytest.param([seen(), seen("i-2", LOST)], ["i-1", "i-2"], id="orphans are, while needed"),
        pytest.param([seen(state=LOST, workers=())], [], id="an empty route is one"),
    ],
)
def test_who_gets_invocations_of_an_endpoint_in_service(
    instances: list[KnownInstance], expected: list[str]
) -> None:
    assert routed(plan(an_endpoint(IN_SERVICE, count=2), *instances)) == expected


def test_surplus_leaves_the_route_before_it_is_stopped() -> None:
    result = plan(an_endpoint(IN_SERVICE), seen(), seen("i-2"))

    assert result.actions == (StopInstance("i-2", drains=True),)
    assert routed(result) == ["i-1"]


def an_update(status: EndpointStatus = UPDATING, **state: Any) -> Endpoint:
    """An endpoint whose second generation wants what ``state`` says of its only variant."""
    return replace(
        an_endpoint(status),
        generation=2,
        variants=(a_variant_state(**{"previous_count": 1, "previous_weight": 1.0, **state}),),
    )


@pytest.mark.parametrize(
    ("endpoint", "instances", "event"),
    [
        pytest.param(an_update(desired_weight=0.0), [seen()], READY, id="a weight: at once"),
        pytest.param(
            an_update(desired_weight=0.0),
            [seen(state=FAILED)],
            READY,
            id="a weight, away from a variant that is broken",
        ),
        pytest.param(
            an_update(desired_count=2), [seen()], None, id="more instances: when they are healthy"
        ),
        pytest.param(
            an_update(desired_count=2), [seen(), seen("i-2", generation=2)], READY, id="and now"
        ),
        pytest.param(
            an_update(desired_count=2),
            [seen(), seen("i-2", FAILED, generation=2, reason="No.")],
            GAVE_UP,
            id="a new one fails: back",
        ),
        pytest.param(
            an_update(desired_count=2),
            [seen(state=FAILED), seen("i-2", STARTING, generation=2)],
            None,
            id="an old one fails: no reason to give up",
        ),
        pytest.param(
            an_update(desired_count=1, previous_count=2),
            [seen(), seen("i-2")],
            READY,
            id="fewer instances: at once",
        ),
        pytest.param(
            an_update(EndpointStatus.ROLLING_BACK),
            [seen(state=FAILED)],
            READY,
            id="the way back waits for nothing",
        ),
    ],
)
def test_when_a_change_of_counts_and_weights_is_done(
    endpoint: Endpoint, instances: list[KnownInstance], event: EndpointEvent | None
) -> None:
    result = plan(endpoint, *instances, age_s=9)

    assert result.event is event
    assert result.route is not None


def test_a_change_that_is_given_up_says_why_and_keeps_the_route() -> None:
    failed = seen("i-2", FAILED, generation=2, reason="No module named 'x'.")

    result = plan(an_update(desired_count=2), seen(), failed)

    assert result.failure_reason == "No module named 'x'."
    assert routed(result) == ["i-1"]


def test_a_failed_instance_that_is_wanted_no_more_goes_at_once() -> None:
    rolled_back = an_update(EndpointStatus.ROLLING_BACK)

    result = plan(rolled_back, seen(), seen("i-2", FAILED, generation=2), age_s=1)

    assert result.actions == (StopInstance("i-2"),)


def a_shadowed_endpoint(status: EndpointStatus = IN_SERVICE) -> Endpoint:
    return replace(
        an_endpoint(status),
        config=an_endpoint_config(shadow_variants=(a_variant("Shadow"),)),
        shadow_variants=(a_variant_state("Shadow", desired_weight=0.5),),
    )


def test_a_shadow_variant_has_instances_of_its_own() -> None:
    assert plan(a_shadowed_endpoint(CREATING)).actions == (
        AddInstance("AllTraffic"),
        AddInstance("Shadow"),
    )


def test_a_shadow_variant_is_routed_beside_the_production_variant() -> None:
    result = plan(a_shadowed_endpoint(), seen(), seen("i-2", variant_name="Shadow"))

    assert routed(result) == ["i-1"]
    assert result.route is not None
    assert result.route.shadow is not None
    assert result.route.shadow.weight == 0.5
    assert [i.id for i in result.route.shadow.instances] == ["i-2"]
    assert EndpointRoute.from_json(result.route.to_json()) == result.route


def test_the_routing_strategy_of_a_variant_is_in_its_route() -> None:
    chosen = {"RoutingConfig": {"RoutingStrategy": "RANDOM"}}
    endpoint = replace(
        an_endpoint(IN_SERVICE, names=("a", "b")),
        config=an_endpoint_config(variants=(a_variant("a", definition=chosen), a_variant("b"))),
    )

    route = plan(endpoint).route

    assert route is not None
    assert [v.routing for v in route.variants] == ["RANDOM", "LEAST_OUTSTANDING_REQUESTS"]


@pytest.mark.parametrize("status", [EndpointStatus.DELETING, EndpointStatus.FAILED])
def test_an_endpoint_that_ends_has_no_route(status: EndpointStatus) -> None:
    assert plan(an_endpoint(status), seen()).route is None


def test_an_endpoint_is_gone_when_its_last_record_goes() -> None:
    deleting = an_endpoint(EndpointStatus.DELETING)

    assert not plan(deleting, seen(state=STOPPING, stopping=True)).is_gone
    assert plan(deleting, seen(state=None, stopping=True)).is_gone
    assert plan(deleting).is_gone
    assert not plan(an_endpoint(EndpointStatus.FAILED)).is_gone


def test_counts_are_of_healthy_instances() -> None:
    result = plan(an_endpoint(IN_SERVICE, count=3), seen(), seen("i-2"), seen("i-3", STARTING))

    assert [(v.current_count, v.desired_count) for v in result.variants] == [(2, 3)]


def test_a_failed_start_gives_its_reasons_once_each() -> None:
    result = plan(
        an_endpoint(count=3),
        seen("i-1", FAILED, reason="No module named 'x'."),
        seen("i-2", FAILED, reason="No module named 'x'."),
        seen("i-3", FAILED, reason="No space."),
    )

    assert result.failure_reason == "No module named 'x'. No space."


def test_a_long_reason_keeps_its_beginning_and_its_end() -> None:
    reason = "The primary container " + "x" * 5000 + " ImportError: torch"

    result = plan(an_endpoint(), seen(state=FAILED, reason=reason))

    assert result.failure_reason is not None
    assert len(result.failure_reason) == MAX_FAILURE_REASON
    assert result.failure_reason.startswith("The primary container")
    assert result.failure_reason.endswith("ImportError: torch")


def test_a_failed_instance_is_looked_at_again_when_its_time_comes() -> None:
    result = plan(an_endpoint(IN_SERVICE), seen(state=FAILED), age_s=10)

    assert result.check_again_in_s == pytest.approx(20)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {
                "config": an_endpoint_config(variants=(a_variant(instance_type=None),)),
                "models": {"digits": a_model(containers=(a_container(), a_container()))},
            },
            "Serverless endpoints do not support inference pipelines",
        ),
        ({"models": {"digits": a_model(containers=())}}, "components"),
        (
            {
                "models": {
                    "digits": a_model(containers=(a_container(mode="MultiModel"), a_container()))
                }
            },
            "multi",
        ),
    ],
)
def test_kinds_that_are_not_built_fail_with_a_reason(changes: dict[str, Any], words: str) -> None:
    result = plan(replace(an_endpoint(), **changes))

    assert result.event is EndpointEvent.GAVE_UP
    assert result.failure_reason is not None
    assert words in result.failure_reason
    assert not result.actions


@pytest.mark.parametrize(("mode", "is_direct"), [("Direct", True), ("Serial", False)])
def test_a_route_says_whether_invocations_name_their_container(mode: str, is_direct: bool) -> None:
    containers = (a_container(hostname="a"), a_container(hostname="b"))
    model = a_model(containers=containers, definition={"InferenceExecutionConfig": {"Mode": mode}})
    endpoint = replace(an_endpoint(status=EndpointStatus.IN_SERVICE), models={"digits": model})
    route = plan(endpoint).route
    assert route is not None
    assert [variant.is_direct for variant in route.variants] == [is_direct]


def test_a_route_says_what_is_captured() -> None:
    capture = {
        "InitialSamplingPercentage": 50,
        "DestinationS3Uri": "s3://bucket",
        "CaptureOptions": [{"CaptureMode": "Output"}],
    }
    endpoint = an_endpoint(IN_SERVICE)
    captured = replace(
        endpoint, config=an_endpoint_config(definition={"DataCaptureConfig": capture})
    )
    plain, with_it = plan(endpoint, seen()).route, plan(captured, seen()).route
    assert plain is not None
    assert plain.capture is None
    assert with_it is not None
    assert with_it.capture is not None
    assert (with_it.capture.share, with_it.capture.takes_input) == (0.5, False)
