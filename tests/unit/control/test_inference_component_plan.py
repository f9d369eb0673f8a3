"""What the components of an endpoint need: tables of given and then."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from builders import A_TIME, a_component, a_spec
from clary.control.inference_component_plan import (
    AddCopy,
    ComponentsPlan,
    Consolidation,
    VariantHosts,
    plan_components,
)
from clary.control.instances import (
    KnownInstance,
    RemoveInstance,
    StartInstance,
    StopInstance,
)
from clary.fleet.instance import ObservedInstance
from clary.fleet.launchers.base import InstanceState
from clary.resources.inference_component import (
    ComponentStatus,
    ComponentUpdate,
    ComputeResources,
    InferenceComponent,
    hosts_name,
)
from clary.resources.instance import InstanceRecord
from clary.resources.routing_table import ContainerRoute

SIZE = ComputeResources(cpu_cores=2.0, memory_mib=8192)
HEALTHY, STARTING = InstanceState.HEALTHY, InstanceState.STARTING
FAILED, LOST = InstanceState.FAILED, InstanceState.LOST
CREATING, UPDATING = ComponentStatus.CREATING, ComponentStatus.UPDATING
IN_SERVICE, GONE = ComponentStatus.IN_SERVICE, ComponentStatus.DELETING


def variant(*ids: str, **fields: Any) -> VariantHosts:
    defaults: dict[str, Any] = {
        "name": "AllTraffic",
        "instance_type": "ml.m5.large",
        "size": SIZE,
        "ids": ids,
        "desired": len(ids),
    }
    return VariantHosts(**{**defaults, **fields})


def copy(
    id: str,
    state: InstanceState | None = HEALTHY,
    *,
    component: str = "llm",
    host: str | None = "h0",
    revision: int = 1,
    stopping: bool = False,
    age_s: float = 100,
    needs: ComputeResources | None = None,
    reason: str | None = None,
) -> KnownInstance:
    record = InstanceRecord(
        id=id,
        endpoint_name=hosts_name("digits"),
        variant_name=component,
        generation=revision,
        created_at=A_TIME - timedelta(seconds=age_s),
        host_id=host,
        share=needs or a_spec().needs,
        stopping=stopping,
    )
    if state is None:
        return KnownInstance(record=record, observed=None)
    containers = (ContainerRoute(name="primary", workers=("unix:/w",)),)
    observed = ObservedInstance(
        id=id,
        endpoint_name=record.endpoint_name,
        variant_name=component,
        state=state,
        reason=reason,
        containers=containers if state is HEALTHY else (),
    )
    return KnownInstance(record=record, observed=observed)


def plan(
    components: list[InferenceComponent],
    copies: list[KnownInstance],
    *variants: VariantHosts,
    now_s: float = 0,
) -> ComponentsPlan:
    return plan_components(
        components,
        copies,
        variants or (variant("h0"),),
        now=A_TIME + timedelta(seconds=now_s),
        alarms={},
        patience_s=600,
    )


def added(result: ComponentsPlan) -> list[tuple[str, str, int]]:
    return [(a.component, a.host_id, a.revision) for a in result.actions if isinstance(a, AddCopy)]


def stopped(result: ComponentsPlan) -> list[str]:
    return [a.id for a in result.actions if isinstance(a, StopInstance)]


def status(result: ComponentsPlan, name: str = "llm") -> tuple[str, int]:
    state = result.states[name]
    return state.status.value, state.current_copies


def test_missing_copies_are_placed_on_the_instances_that_are_there() -> None:
    llm = a_component(status=CREATING, desired_copies=3)
    result = plan([llm], [copy("c1", STARTING)], variant("h0", "h1"))
    assert added(result) == [("llm", "h1", 1), ("llm", "h0", 1)]
    assert status(result) == ("Creating", 0)
    assert result.serving["llm"] == ()
    assert result.waits == frozenset()


def test_a_component_is_in_service_when_all_its_copies_are_healthy() -> None:
    result = plan([a_component(status=CREATING)], [copy("c1")])
    assert status(result) == ("InService", 1)
    assert [c.record.id for c in result.serving["llm"]] == ["c1"]


def test_no_copies_are_wanted_and_none_is_there() -> None:
    result = plan([a_component(status=CREATING, desired_copies=0)], [], variant())
    assert status(result) == ("InService", 0)
    assert result.waits == frozenset()


def test_invocations_wait_for_copies_that_were_there_before_a_restart() -> None:
    result = plan([a_component(current_copies=1)], [copy("c1", None)])
    assert result.actions == (StartInstance("c1", "llm"),)
    assert status(result) == ("InService", 0)
    assert result.waits == {"llm"}


def test_surplus_copies_drain_those_first_that_do_not_work() -> None:
    llm = a_component(status=UPDATING, desired_copies=1)
    result = plan([llm], [copy("c1"), copy("c2", STARTING)])
    assert result.actions == (StopInstance("c2", drains=True),)
    assert status(result) == ("InService", 1)


@pytest.mark.parametrize(
    ("strategy", "expected"), [("SPREAD", ["a2"]), ("BINPACK", ["a3"])], ids=["spread", "binpack"]
)
def test_which_copy_goes_follows_the_placement(strategy: str, expected: list[str]) -> None:
    spec = a_spec(SchedulingConfig={"PlacementStrategy": strategy})
    llm = a_component(status=UPDATING, desired_copies=2, spec=spec)
    copies = [copy("a1"), copy("a2"), copy("a3", host="h1")]
    assert stopped(plan([llm], copies, variant("h0", "h1"))) == expected


def test_stopping_copies_still_take_their_share() -> None:
    llm = a_component(status=UPDATING, desired_copies=1)
    busy = [copy(f"c{i}", stopping=True, component="gone") for i in range(2)]
    result = plan([llm], busy)
    assert added(result) == []
    reason = result.states["llm"].failure_reason
    assert reason is not None
    assert reason.startswith("Waiting for capacity: 1 of 1 copies are not placed.")


def test_what_no_instance_ever_holds_fails_at_once() -> None:
    llm = a_component(status=CREATING, spec=a_spec(memory_mib=9000))
    result = plan([llm], [])
    assert result.states["llm"].status is ComponentStatus.FAILED
    assert "a copy needs 1 CPU cores, 9000 MB of memory" in str(result.states["llm"].failure_reason)
    assert "llm" not in result.serving
    assert added(result) == []


def test_a_copy_that_cannot_load_fails_a_new_component() -> None:
    llm = a_component(status=CREATING)
    result = plan([llm], [copy("c1", FAILED, reason="It raised.", age_s=1)])
    state = result.states["llm"]
    assert (state.status, state.failure_reason) == (ComponentStatus.FAILED, "It raised.")


def test_a_failed_copy_is_replaced_after_a_while() -> None:
    llm = a_component(desired_copies=1)
    soon = plan([llm], [copy("c1", FAILED, reason="It raised.", age_s=10)])
    assert (stopped(soon), added(soon), soon.check_again_in_s) == ([], [], 20)
    later = plan([llm], [copy("c1", FAILED, reason="It raised.", age_s=31)])
    assert (stopped(later), added(later)) == (["c1"], [("llm", "h0", 1)])


def test_a_copy_that_was_lost_is_replaced_at_once() -> None:
    result = plan([a_component()], [copy("c1", LOST)])
    assert (stopped(result), added(result)) == (["c1"], [("llm", "h0", 1)])


def test_a_copy_without_an_instance_serves_until_another_one_does() -> None:
    llm = a_component()
    displaced = copy("c1", host="h-gone")
    first = plan([llm], [displaced])
    assert (stopped(first), added(first)) == ([], [("llm", "h0", 1)])
    assert [c.record.id for c in first.serving["llm"]] == ["c1"]
    second = plan([llm], [displaced, copy("c2")])
    assert stopped(second) == ["c1"]


def test_a_copy_without_an_instance_that_does_not_run_is_not_started_again() -> None:
    result = plan([a_component()], [copy("c1", None, host="h-gone")])
    assert stopped(result) == ["c1"]
    assert added(result) == [("llm", "h0", 1)]


def test_a_component_that_is_deleted_goes_when_nothing_of_it_runs() -> None:
    llm = a_component(status=GONE)
    first = plan([llm], [copy("c1")])
    assert first.actions == (StopInstance("c1", drains=True),)
    assert first.gone == ()
    assert "llm" not in first.serving
    last = plan([llm], [copy("c1", None, stopping=True)])
    assert last.actions == (RemoveInstance("c1"),)
    assert last.gone == ("llm",)


def test_copies_of_no_component_are_wound_up() -> None:
    assert stopped(plan([], [copy("c1", component="who")])) == ["c1"]


def test_an_endpoint_that_is_gone_starts_nothing() -> None:
    result = plan_components([], [], [], now=A_TIME, alarms={}, patience_s=1)
    assert result == ComponentsPlan()


# Instances that follow ------------------------------------------------------------------------


def managed(*ids: str, least: int = 0, most: int = 3, **fields: Any) -> VariantHosts:
    return variant(*ids, bounds=(least, most), **fields)


def test_instances_are_asked_for_when_copies_find_no_room() -> None:
    llm = a_component(status=UPDATING, desired_copies=5)
    result = plan([llm], [copy("c1")], managed("h0"))
    assert added(result) == [("llm", "h0", 1)]
    assert result.instance_counts == {"AllTraffic": 3}
    assert status(result) == ("Updating", 1)
    assert result.states["llm"].failure_reason is None


def test_instances_that_are_coming_are_not_asked_for_twice() -> None:
    llm = a_component(status=UPDATING, desired_copies=3)
    result = plan([llm], [copy("c1"), copy("c2")], managed("h0", desired=2))
    assert result.instance_counts == {}
    assert status(result) == ("Updating", 2)


def test_more_copies_than_the_largest_number_of_instances_holds() -> None:
    llm = a_component(status=UPDATING, desired_copies=9)
    copies = [copy(f"c{i}", host=f"h{i // 2}") for i in range(6)]
    result = plan([llm], copies, managed("h0", "h1", "h2"))
    assert (added(result), result.instance_counts) == ([], {})
    assert status(result) == ("InService", 6)
    assert str(result.states["llm"].failure_reason) == (
        "Waiting for capacity: 3 of 9 copies are not placed. Each copy needs 1 CPU cores, 1024 MB "
        'of memory, and none of the 3 ml.m5.large instances of variant "AllTraffic" has room for '
        "it. ManagedInstanceScaling allows no more than 3 instances."
    )
    assert result.check_again_in_s == 10


def test_a_refused_instance_is_the_reason() -> None:
    result = plan([a_component(status=CREATING)], [], managed(desired=1, refusal="The quota is 0."))
    assert status(result) == ("Creating", 0)
    assert str(result.states["llm"].failure_reason).endswith("are not placed. The quota is 0.")


def test_empty_instances_go_down_to_the_least() -> None:
    result = plan([a_component()], [copy("c1")], managed("h0", "h1", "h2", least=2))
    assert result.instance_counts == {"AllTraffic": 2}
    assert result.released == ("h2",)


def test_instances_with_a_copy_that_is_stopping_stay() -> None:
    llm = a_component(desired_copies=0)
    result = plan([llm], [copy("c1", stopping=True)], managed("h0"))
    assert (result.instance_counts, result.released) == ({}, ())
    assert plan([llm], [], managed("h0")).released == ("h0",)


@pytest.mark.parametrize(
    "hosts",
    [variant("h0", "h1"), managed("h0", "h1", is_free=False)],
    ids=["without-managed-scaling", "while-the-endpoint-is-changed"],
)
def test_instances_that_do_not_follow_stay(hosts: VariantHosts) -> None:
    result = plan([a_component(desired_copies=0)], [], hosts)
    assert (result.instance_counts, result.released) == ({}, ())


# Consolidation --------------------------------------------------------------------------------


def spread_out() -> list[KnownInstance]:
    return [copy("a1"), copy("b1", component="b", host="h1"), copy("b2", component="b", host="h2")]


def consolidating(**fields: Any) -> VariantHosts:
    defaults: dict[str, Any] = {"consolidation": Consolidation(cooldown_s=60)}
    return replace(managed("h0", "h1", "h2"), **{**defaults, **fields})


PAIR = [a_component(), a_component("b", desired_copies=2)]


@pytest.mark.parametrize(
    ("hosts", "now_s", "expected"),
    [
        pytest.param(consolidating(), 61, ("h0",), id="one-at-a-time"),
        pytest.param(
            consolidating(consolidation=Consolidation(step=5, cooldown_s=60)),
            61,
            ("h0",),
            id="no-more-than-fit-elsewhere",
        ),
        pytest.param(consolidating(), 59, (), id="not-before-the-cooldown"),
        pytest.param(consolidating(bounds=(3, 3)), 61, (), id="not-below-the-least"),
        pytest.param(consolidating(consolidation=None), 61, (), id="not-with-idle-release"),
        pytest.param(consolidating(is_free=False), 61, (), id="not-while-it-is-changed"),
        pytest.param(consolidating(vacating=frozenset({"h0"})), 61, (), id="not-twice"),
    ],
)
def test_when_instances_are_emptied(
    hosts: VariantHosts, now_s: float, expected: tuple[str, ...]
) -> None:
    assert plan(PAIR, spread_out(), hosts, now_s=now_s).vacated == expected


def test_nothing_is_moved_while_a_component_is_changed_or_broken() -> None:
    changing = [a_component(status=UPDATING), PAIR[1]]
    copies = [copy("a1", STARTING), *spread_out()[1:]]
    assert plan(changing, copies, consolidating(), now_s=61).vacated == ()
    assert plan(PAIR, copies, consolidating(), now_s=61).vacated == ()


def test_copies_of_an_instance_that_is_emptied_move_without_a_gap() -> None:
    hosts = consolidating(vacating=frozenset({"h0"}))
    first = plan(PAIR, spread_out(), hosts)
    assert (added(first), stopped(first)) == ([("llm", "h1", 1)], [])
    second = plan(PAIR, [*spread_out(), copy("a2", host="h1")], hosts)
    assert stopped(second) == ["a1"]
    last = plan(PAIR, [*spread_out()[1:], copy("a2", host="h1")], hosts)
    assert last.released == ("h0",)


# Updates --------------------------------------------------------------------------------------


def updating(copies: int = 2, batch: int = 1, **fields: Any) -> InferenceComponent:
    policy = {
        "RollingUpdatePolicy": {
            "MaximumBatchSize": {"Type": "COPY_COUNT", "Value": 1},
            "WaitIntervalInSeconds": 0,
        }
    }
    baking = fields.pop("baking_since", None)
    update = ComponentUpdate(
        old=a_spec(cores=0.5), old_revision=1, started_at=A_TIME, batch=batch, baking_since=baking
    )
    return a_component(
        status=UPDATING,
        desired_copies=copies,
        revision=2,
        spec=a_spec(cores=0.5),
        update=update,
        deployment_config=policy,
        **fields,
    )


HALF = a_spec(cores=0.5).needs


def old(id: str, **fields: Any) -> KnownInstance:
    return copy(id, needs=HALF, **fields)


def new(id: str, state: InstanceState = HEALTHY, **fields: Any) -> KnownInstance:
    return copy(id, state, revision=2, needs=HALF, **fields)


def test_an_update_starts_one_batch_beside_the_old_copies() -> None:
    result = plan([updating()], [old("o1"), old("o2")])
    assert (added(result), stopped(result)) == ([("llm", "h0", 2)], [])
    assert len(result.serving["llm"]) == 2


def test_old_copies_go_when_the_batch_has_served() -> None:
    copies = [old("o1"), old("o2"), new("n1")]
    serving = plan([updating()], copies)
    assert stopped(serving) == []
    update = serving.states["llm"].update
    assert update is not None
    assert update.baking_since == A_TIME
    baked = plan([updating(baking_since=A_TIME)], copies)
    assert stopped(baked) == ["o2"]
    update = baked.states["llm"].update
    assert update is not None
    assert (update.batch, update.baking_since) == (2, None)


def test_an_update_is_over_when_the_last_batch_has_served() -> None:
    last = updating(batch=2, baking_since=A_TIME)
    result = plan([last], [old("o1"), new("n1"), new("n2")])
    assert stopped(result) == ["o1"]
    assert result.states["llm"].update is None
    over = replace(last, update=None)
    assert status(plan([over], [new("n1"), new("n2")])) == ("InService", 2)


def test_an_update_of_nothing_is_over_at_once() -> None:
    result = plan([updating(copies=0, baking_since=A_TIME)], [])
    assert result.states["llm"].update is None


def test_an_update_with_a_copy_that_fails_goes_back() -> None:
    copies = [old("o1"), old("o2"), new("n1", FAILED, reason="It raised.", age_s=1)]
    result = plan([updating()], copies)
    state = result.states["llm"]
    assert (state.is_rolled_back, state.update) == (True, None)
    assert state.failure_reason == "The update failed: It raised."
    assert stopped(result) == []
    back = a_component(
        status=UPDATING,
        desired_copies=2,
        revision=1,
        spec=a_spec(cores=0.5),
        failure_reason=state.failure_reason,
    )
    after = plan([back], copies)
    assert stopped(after) == ["n1"]
    assert status(after) == ("InService", 2)
    assert after.states["llm"].failure_reason == "The update failed: It raised."


def test_an_update_that_finds_no_room_waits_and_then_goes_back() -> None:
    large = [copy("o1"), copy("o2")]
    component = replace(updating(), spec=a_spec())
    waiting = plan([component], large, now_s=10)
    assert str(waiting.states["llm"].failure_reason).startswith("Waiting for capacity: 1 new")
    assert not waiting.states["llm"].is_rolled_back
    late = plan([component], large, now_s=601)
    assert late.states["llm"].is_rolled_back
