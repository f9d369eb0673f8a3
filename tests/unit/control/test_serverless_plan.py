"""What a pass makes of a serverless endpoint: its route, its hosts' numbers, its status."""

from collections.abc import Collection
from typing import Any

import pytest

from builders import (
    A_TIME,
    a_model,
    a_variant,
    a_variant_state,
    an_endpoint_config,
    an_instance,
)
from clary.control.demand import Demand
from clary.control.endpoint_plan import Plan, StartLimits, plan_endpoint
from clary.control.instances import AddInstance, KnownInstance
from clary.control.serverless import Scale, ServerlessScaling, View
from clary.fleet.instance import ObservedInstance
from clary.fleet.launchers.base import InstanceState
from clary.resources.endpoint import Endpoint, EndpointEvent, EndpointStatus
from clary.resources.routing_table import ContainerRoute
from clary.resources.serverless import ServerlessCapacity, ServerlessState

CONFIG = {"MemorySizeInMB": 1024, "MaxConcurrency": 5}
CREATING, IN_SERVICE = EndpointStatus.CREATING, EndpointStatus.IN_SERVICE
UPDATING = EndpointStatus.UPDATING
LIMITS = StartLimits(startup_timeout_s=480, download_timeout_s=3600)


class Site:
    """A pass without a store or a fleet: what it saw, planned and told."""

    def __init__(self, status: EndpointStatus = IN_SERVICE, *, provisioned: int = 0) -> None:
        self.at = 0.0
        self.demand = Demand(self, idle_s=10)  # type: ignore[arg-type]
        self.scaling = ServerlessScaling(self.demand, self, max_workers=3)
        self.told: list[Scale] = []
        desired = ServerlessCapacity(max_concurrency=5, provisioned=provisioned)
        current = ServerlessCapacity(max_concurrency=5)
        state = a_variant_state(serverless=ServerlessState(desired=desired, current=current))
        self.endpoint = Endpoint(
            name="digits",
            arn="arn",
            status=status,
            generation=1,
            failure_reason=None,
            config=an_endpoint_config(
                variants=(a_variant(instance_type=None, definition={"ServerlessConfig": CONFIG}),)
            ),
            models={"digits": a_model()},
            variants=(state,),
            created_at=A_TIME,
            modified_at=A_TIME,
        )

    def monotonic(self) -> float:
        return self.at

    def scale(self, instance_id: str, workers: int, ending: Collection[str]) -> None:
        self.told.append(Scale(instance_id=instance_id, workers=workers, ending=tuple(ending)))

    def look(
        self,
        *workers: str,
        wanted: int = 0,
        state: InstanceState = InstanceState.HEALTHY,
        **more: Any,
    ) -> tuple[View, Plan]:
        """Do a pass over one host that has these workers."""
        record = an_instance()
        observed = ObservedInstance(
            id=record.id,
            endpoint_name="digits",
            variant_name="AllTraffic",
            state=state,
            containers=(ContainerRoute(name="primary", workers=workers),),
            wanted_workers=wanted,
            **more,
        )
        view = self.scaling.view(self.endpoint, [record], {record.id: observed})
        shown = KnownInstance(record=record, observed=view.observed[record.id])
        return view, plan_endpoint(self.endpoint, [shown], now=A_TIME, limits=LIMITS)


def routed(plan: Plan) -> list[str]:
    assert plan.route is not None
    return [
        worker
        for instance in plan.route.variants[0].instances
        for container in instance.containers
        for worker in container.workers
    ]


def test_a_new_endpoint_gets_a_host_whatever_is_provisioned() -> None:
    site = Site(CREATING)

    plan = plan_endpoint(site.endpoint, [], now=A_TIME, limits=LIMITS)

    assert plan.actions == (AddInstance("AllTraffic"),)
    assert plan.event is None


def test_it_is_ready_once_its_first_worker_is_which_then_counts_as_needed() -> None:
    site = Site(CREATING)
    view, plan = site.look(state=InstanceState.STARTING, wanted=1)
    assert plan.event is None

    view, plan = site.look("a", wanted=1)

    assert plan.event is EndpointEvent.READY
    assert view.scales == ()
    assert routed(plan) == ["a"]


def test_after_a_while_its_worker_leaves_the_route_and_then_ends() -> None:
    site = Site()
    view, _ = site.look("a", wanted=1)
    assert view.check_again_in_s == pytest.approx(10.01)
    site.at = 10.1

    view, plan = site.look("a", wanted=1)

    assert routed(plan) == []
    assert plan.actions == ()
    assert site.scaling.scale(view, lambda instance_id: True) is True
    assert site.told == []  # a gateway has an open call with it
    assert site.scaling.scale(view, lambda instance_id: False) is False
    assert site.told == [Scale(instance_id="i-1", workers=0, ending=("a",))]


def test_a_call_that_waits_starts_workers_up_to_the_most() -> None:
    site = Site()
    site.demand.note("digits", "AllTraffic", 9, life="g0")

    view, plan = site.look(wanted=0)

    assert view.scales == (Scale(instance_id="i-1", workers=3),)
    assert plan.route is not None
    limits = plan.route.variants[0].serverless
    assert limits is not None
    assert (limits.max_concurrency, limits.provisioned, limits.trouble) == (5, 0, None)


def test_workers_are_routed_to_as_they_come() -> None:
    site = Site()
    site.demand.note("digits", "AllTraffic", 2, life="g0")

    view, plan = site.look("a", wanted=2, state=InstanceState.HEALTHY)

    assert view.scales == ()
    assert routed(plan) == ["a"]


def test_provisioned_workers_are_waited_for() -> None:
    site = Site(UPDATING, provisioned=2)
    view, plan = site.look("a", wanted=1)
    assert view.scales == (Scale(instance_id="i-1", workers=2),)
    assert plan.event is None
    (state,) = plan.variants
    assert state.serverless is not None
    assert state.serverless.current.provisioned == 1

    view, plan = site.look("a", "b", wanted=2)

    assert plan.event is EndpointEvent.READY
    assert plan.variants[0].serverless is not None
    assert plan.variants[0].serverless.is_reached


def test_another_maximum_needs_no_worker() -> None:
    site = Site(UPDATING)

    _, plan = site.look(wanted=0)

    assert plan.event is EndpointEvent.READY


def test_a_model_that_cannot_be_loaded_any_more_is_told_to_gateways() -> None:
    site = Site()
    site.demand.note("digits", "AllTraffic", 1, life="g0")

    _, plan = site.look(wanted=1, state=InstanceState.UNHEALTHY, reason="ValueError: no weights")

    assert plan.route is not None
    assert plan.route.variants[0].serverless is not None
    assert plan.route.variants[0].serverless.trouble == "ValueError: no weights"
    assert plan.event is None


def test_a_host_that_has_not_told_yet_is_left_alone() -> None:
    site = Site()
    record = an_instance()
    observed = ObservedInstance(
        id="i-1",
        endpoint_name="digits",
        variant_name="AllTraffic",
        state=InstanceState.STARTING,
    )

    view = site.scaling.view(site.endpoint, [record], {"i-1": observed})

    assert view.scales == ()
