import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from builders import a_model, a_variant, an_endpoint_config
from clary.errors import InUse, InvalidRequest, LimitExceeded, NotFound
from clary.resources.endpoint import (
    DeploymentPhase,
    Endpoint,
    EndpointEvent,
    EndpointStatus,
    Progress,
)
from clary.resources.quotas import Quotas
from clary.resources.variant_changes import VariantChange
from clary.store import Store
from clary.store.deployments import Update
from deployments import canary, rolling

QUOTAS = Quotas(total=10)
READY, GAVE_UP = EndpointEvent.READY, EndpointEvent.GAVE_UP


async def _config(store: Store, name: str, count: int = 2) -> None:
    variant = a_variant(initial_instance_count=count)
    await store.endpoint_configs.create(an_endpoint_config(name, variants=(variant,)))


async def _in_service(store: Store) -> Endpoint:
    await store.models.create(a_model())
    for name, count in (("digits", 2), ("new", 3), ("huge", 9)):
        await _config(store, name, count)
    await store.endpoints.create("digits", "digits", quotas=QUOTAS)
    await store.endpoints.record_event("digits", 1, READY)
    return await store.endpoints.get("digits")


def _begin(store: Store, config: str = "new", **fields: Any) -> Coroutine[Any, Any, Endpoint]:
    return store.deployments.begin(
        Update(endpoint_name="digits", config_name=config, **fields), quotas=QUOTAS
    )


def test_an_update_is_wanted_beside_what_is_there(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        before = await _in_service(store)
        returned = await _begin(store, deployment_config=canary())

        found = await store.endpoints.get("digits")
        assert found == returned
        assert (found.status, found.generation) == (EndpointStatus.UPDATING, 2)
        assert (found.config.name, found.fleet) == ("digits", before.fleet)
        assert found.deployment is not None
        assert (found.deployment.config.name, found.deployment.fleet) == ("new", 2)
        assert found.deployment.variants[0].desired_count == 3
        assert found.deployment.progress == Progress()
        assert found.deployment_config == canary()
        assert await store.endpoints.list_all() == [found]

    runner.run(story())


def test_it_comes_further_and_becomes_the_endpoint(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await _in_service(store)
        begun = await _begin(store)
        assert begun.deployment is not None
        further = Progress(phase=DeploymentPhase.BAKING, step=1)
        assert await store.deployments.record("digits", 2, progress=further)
        assert not await store.deployments.record("digits", 1, progress=Progress())  # too late
        found = await store.endpoints.get("digits")
        assert found.deployment is not None
        assert found.deployment.progress == further
        assert found.deployment.progress_at > begun.deployment.progress_at

        assert await store.endpoints.record_event("digits", 2, READY)
        done = await store.endpoints.get("digits")
        assert done.status is EndpointStatus.IN_SERVICE
        assert (done.config.name, done.fleet, done.generation) == ("new", 2, 2)
        assert done.deployment is None
        assert [state.desired_count for state in done.variants] == [3]

    runner.run(story())


def test_an_update_that_is_given_up_leaves_no_trace_but_its_reason(
    store: Store, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        before = await _in_service(store)
        await _begin(store)
        await store.endpoints.record_event("digits", 2, GAVE_UP, failure_reason="No.")
        back = await store.endpoints.get("digits")
        assert back.status is EndpointStatus.ROLLING_BACK
        assert back.deployment is not None
        assert back.deployment.progress.rollback_step == 1

        await store.endpoints.record_event("digits", 2, READY)
        found = await store.endpoints.get("digits")
        assert (found.status, found.failure_reason) == (EndpointStatus.IN_SERVICE, "No.")
        assert (found.config, found.variants) == (before.config, before.variants)
        assert (found.deployment, found.fleet) == (None, before.fleet)

        again = await _begin(store)
        assert again.failure_reason is None
        assert again.deployment is not None
        assert again.deployment.fleet == 3  # never a number that was there before

    runner.run(story())


def test_a_way_back_that_fails_stays_for_the_next_update(
    store: Store, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        await _in_service(store)
        await _begin(store, deployment_config=rolling())
        for _ in range(2):
            await store.endpoints.record_event("digits", 2, GAVE_UP, failure_reason="No.")
        stuck = await store.endpoints.get("digits")
        assert stuck.status is EndpointStatus.UPDATE_ROLLBACK_FAILED
        assert stuck.deployment is not None
        with pytest.raises(InvalidRequest, match="mix of two configurations"):
            await store.endpoints.change_variants(
                "digits", [VariantChange(variant_name="AllTraffic", count=1)], quotas=QUOTAS
            )

        again = await _begin(store)
        assert again.deployment is not None
        assert again.deployment.guest_fleet == stuck.deployment.fleet
        await store.endpoints.record_event("digits", 3, READY)
        await store.endpoints.request_deletion("digits")
        assert await store.endpoints.remove("digits")
        created = await store.endpoints.create("digits", "new", quotas=QUOTAS)
        assert created.deployment is None

    runner.run(story())


def test_the_deployment_configuration_of_the_last_time_is_used_again(
    store: Store, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        await _in_service(store)
        await _begin(store, deployment_config=canary())
        await store.endpoints.record_event("digits", 2, READY)
        again = await _begin(store, "digits", retains_deployment_config=True)
        assert again.deployment is not None
        assert again.deployment.deployment_config == canary()
        await store.endpoints.record_event("digits", 3, READY)
        plain = await _begin(store)
        assert plain.deployment_config is None

    runner.run(story())


def test_both_fleets_count_against_the_quotas(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await _in_service(store)
        with pytest.raises(LimitExceeded, match="utilization of 2 Instances and a request delta"):
            await _begin(store, "huge")
        assert (await store.endpoints.get("digits")).status is EndpointStatus.IN_SERVICE
        await _begin(store, "huge", deployment_config=rolling(1))  # 9 at most in the end, and one
        await _config(store, "one", 1)
        with pytest.raises(LimitExceeded):
            await store.endpoints.create("other", "one", quotas=QUOTAS)
        await store.endpoints.record_event("digits", 2, GAVE_UP)
        await store.endpoints.record_event("digits", 2, READY)
        assert await store.endpoints.count_instances_by_type() == {"ml.m5.large": 2}

    runner.run(story())


def test_what_is_missing_or_busy_is_refused_and_nothing_changes(
    store: Store, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        before = await _in_service(store)
        with pytest.raises(NotFound, match="Could not find endpoint configuration"):
            await _begin(store, "nothing")
        with pytest.raises(NotFound, match="Could not find endpoint "):
            await store.deployments.begin(
                Update(endpoint_name="nobody", config_name="new"), quotas=QUOTAS
            )
        await store.models.delete("digits")
        with pytest.raises(NotFound, match="Could not find model"):
            await _begin(store)
        assert await store.endpoints.get("digits") == before
        await store.models.create(a_model())
        await _begin(store)
        with pytest.raises(InUse, match="Cannot update in-progress endpoint"):
            await _begin(store)

    runner.run(story())


def test_each_step_leaves_an_event(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> list[dict[str, Any]]:
        await store.events.register(["file"])
        await _in_service(store)
        await _begin(store, deployment_config=canary())
        for phase in (DeploymentPhase.ACTIVATING, DeploymentPhase.BAKING):
            progress = Progress(phase=phase, step=1)
            assert await store.deployments.record("digits", 2, progress=progress)
        # Of another generation, or only of counts: nobody hears of these.
        assert not await store.deployments.record("digits", 1, progress=Progress())
        found = await store.endpoints.get("digits")
        assert found.deployment is not None
        await store.deployments.record("digits", 2, variants=found.deployment.variants)
        await store.endpoints.record_event("digits", 2, GAVE_UP, failure_reason="alarm")
        await store.endpoints.record_event("digits", 2, READY)
        pending = await store.events.pending("file", limit=100)
        return [dict(event.document) for event in pending]

    told = runner.run(story())
    endpoint, deployment = (
        [event["detail"] for event in told if event["detail-type"].endswith(kind)]
        for kind in ("Endpoint State Change", "Deployment State Change")
    )
    assert [detail["EndpointStatus"] for detail in endpoint] == [
        *("CREATING", "IN_SERVICE", "UPDATING", "ROLLING_BACK", "IN_SERVICE")
    ]
    of_new = [detail["PendingDeploymentSummary"]["ProductionVariants"][0] for detail in deployment]
    assert [variant["VariantStatus"][0]["Status"] for variant in of_new] == [
        *("Creating", "ActivatingTraffic", "Baking", "Deleting")
    ]
    assert [detail["EndpointStatus"] for detail in deployment] == [
        *("UPDATING", "UPDATING", "UPDATING", "ROLLING_BACK")
    ]
    assert deployment[3]["FailureReason"] == "alarm"
    assert {detail["EndpointConfigName"] for detail in deployment} == {"digits"}
    for detail in deployment:
        summary = detail["PendingDeploymentSummary"]
        assert summary["EndpointConfigName"] == "new"
        assert isinstance(summary["StartTime"], int)


def test_a_change_of_counts_is_no_deployment(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> set[str]:
        await store.events.register(["file"])
        await _in_service(store)
        change = VariantChange(variant_name="AllTraffic", count=3)
        await store.endpoints.change_variants("digits", [change], quotas=QUOTAS)
        await store.endpoints.record_event("digits", 2, GAVE_UP)
        pending = await store.events.pending("file", limit=100)
        return {event.document["detail-type"] for event in pending}

    assert runner.run(story()) == {"SageMaker Endpoint State Change"}
