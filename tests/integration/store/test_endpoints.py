import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from builders import a_model, a_variant, a_variant_state, an_endpoint_config
from clary.errors import AlreadyExists, InUse, InvalidRequest, LimitExceeded, NotFound
from clary.resources.endpoint import Endpoint, EndpointEvent, EndpointStatus, IllegalTransition
from clary.resources.names import ResourceKind
from clary.resources.quotas import Quotas
from clary.resources.variant_changes import VariantChange
from clary.store import Store

QUOTAS = Quotas(total=100)


async def _create(store: Store, name: str = "digits", **variant: Any) -> Endpoint:
    if await store.models.find("digits") is None:
        await store.models.create(a_model())
    if await store.endpoint_configs.find(name) is None:
        config = an_endpoint_config(name, variants=(a_variant(**variant),))
        await store.endpoint_configs.create(config)
    return await store.endpoints.create(name, name, quotas=QUOTAS)


def test_an_endpoint_is_found_as_it_was_created(store: Store, runner: asyncio.Runner) -> None:
    created = runner.run(_create(store, initial_instance_count=2, initial_weight=0.5))
    found = runner.run(store.endpoints.find("digits"))

    assert found == created
    assert created.status is EndpointStatus.CREATING
    assert created.generation == 1
    assert created.variants == (
        a_variant_state(desired_count=2, desired_weight=0.5, current_weight=0.5),
    )
    assert created.arn.endswith(":endpoint/digits")


def test_an_endpoint_keeps_what_was_deleted_under_it(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        created = await _create(store)
        await store.endpoint_configs.delete("digits")
        await store.models.delete("digits")
        assert await store.endpoints.find("digits") == created

    runner.run(story())


def test_a_name_that_differs_in_case_alone_is_taken(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await _create(store, "Digits")
        with pytest.raises(AlreadyExists, match=r"already existing endpoint .*endpoint/digits"):
            await store.endpoints.create("digits", "Digits", quotas=QUOTAS)
        assert await store.endpoints.find("digits") is None

    runner.run(story())


def test_creating_needs_the_configuration_and_its_models(
    store: Store, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        with pytest.raises(NotFound, match="Could not find endpoint configuration"):
            await store.endpoints.create("digits", "digits", quotas=QUOTAS)
        await store.models.create(a_model())
        await store.endpoint_configs.create(an_endpoint_config())
        await store.models.delete("digits")
        with pytest.raises(NotFound, match="Could not find model"):
            await store.endpoints.create("digits", "digits", quotas=QUOTAS)
        assert await store.endpoints.list_names() == []

    runner.run(story())


def test_quotas_count_all_endpoints_but_the_failed(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await _create(store, "a", initial_instance_count=2)
        await _create(store, "b", initial_instance_count=1)
        assert await store.endpoints.count_instances_by_type() == {"ml.m5.large": 3}
        tight = Quotas(total=100, by_type={"ml.m5.large": 3})
        with pytest.raises(LimitExceeded, match=r"current utilization of 3 .* delta of 1 "):
            await store.endpoints.create("c", "b", quotas=tight)

        await store.endpoints.record_event("a", 1, EndpointEvent.GAVE_UP, failure_reason="why")
        await store.endpoints.create("c", "b", quotas=tight)
        assert await store.endpoints.count_instances_by_type() == {"ml.m5.large": 2}

    runner.run(story())


def test_of_two_creations_at_once_one_wins_the_quota(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await _create(store, "a")
        quotas = Quotas(total=2)
        outcomes = await asyncio.gather(
            *(store.endpoints.create(n, "a", quotas=quotas) for n in "bcde"), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes].count(LimitExceeded) == 3

    runner.run(story())


def test_an_event_changes_the_status_once(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        created = await _create(store)
        assert await store.endpoints.record_event("digits", 1, EndpointEvent.READY)
        assert not await store.endpoints.record_event("digits", 1, EndpointEvent.READY)
        found = await store.endpoints.get("digits")
        assert found.status is EndpointStatus.IN_SERVICE
        assert found.modified_at > created.modified_at

    runner.run(story())


def test_an_event_of_an_older_generation_does_nothing(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await _create(store)
        assert not await store.endpoints.record_event("digits", 2, EndpointEvent.GAVE_UP)
        assert not await store.endpoints.record_event("other", 1, EndpointEvent.GAVE_UP)
        assert (await store.endpoints.get("digits")).status is EndpointStatus.CREATING

    runner.run(story())


def test_an_event_that_cannot_happen_is_refused(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await _create(store)
        with pytest.raises(IllegalTransition):
            await store.endpoints.record_event("digits", 1, EndpointEvent.UPDATE_REQUESTED)

    runner.run(story())


def test_a_failure_keeps_its_reason(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await _create(store)
        await store.endpoints.record_event("digits", 1, EndpointEvent.GAVE_UP, failure_reason="x")
        assert not await store.endpoints.record_event("digits", 1, EndpointEvent.GAVE_UP)
        assert (await store.endpoints.get("digits")).failure_reason == "x"

    runner.run(story())


def test_counts_are_written_without_modifying_the_endpoint(
    store: Store, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        created = await _create(store)
        state = a_variant_state(current_count=1)
        stranger = a_variant_state("stranger")
        assert await store.endpoints.record_variants("digits", 1, [state, stranger])
        assert not await store.endpoints.record_variants("digits", 1, [state])
        assert not await store.endpoints.record_variants("digits", 7, [a_variant_state()])
        found = await store.endpoints.get("digits")
        assert found.variants == (state,)
        assert found.modified_at == created.modified_at

    runner.run(story())


def test_deleting_is_asked_once_and_finished_by_control(
    store: Store, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        await _create(store)
        with pytest.raises(InUse, match="Cannot update in-progress endpoint"):
            await store.endpoints.request_deletion("digits")
        assert not await store.endpoints.remove("digits")
        await store.endpoints.record_event("digits", 1, EndpointEvent.READY)

        await store.endpoints.request_deletion("digits")
        found = await store.endpoints.get("digits")
        assert (found.status, found.generation) == (EndpointStatus.DELETING, 2)
        assert not await store.endpoints.record_event("digits", 1, EndpointEvent.READY)
        with pytest.raises(InUse):
            await store.endpoints.request_deletion("digits")

        assert await store.endpoints.remove("digits")
        assert await store.endpoints.find("digits") is None
        with pytest.raises(NotFound, match=r'Could not find endpoint "arn:.*:endpoint/digits"'):
            await store.endpoints.request_deletion("digits")
        await _create(store)

    runner.run(story())


def test_tags_go_with_the_endpoint(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await _create(store)
        await store.tags.add(ResourceKind.ENDPOINT, "digits", {"a": "1"})
        await store.endpoints.record_event("digits", 1, EndpointEvent.READY)
        await store.endpoints.request_deletion("digits")
        await store.endpoints.remove("digits")
        await _create(store)
        assert await store.tags.list(ResourceKind.ENDPOINT, "digits") == {}

    runner.run(story())


def test_each_change_is_told_after_its_commit_and_no_other(
    store: Store, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        await _create(store)
        feed = store.changes.subscribe()
        await store.endpoints.record_event("digits", 1, EndpointEvent.READY)
        await store.endpoints.record_event("digits", 1, EndpointEvent.READY)
        await store.endpoints.record_variants("digits", 1, [a_variant_state(current_count=1)])
        await store.endpoints.request_deletion("digits")
        await store.endpoints.remove("digits")
        await store.endpoints.remove("digits")
        assert [feed.get_nowait() for _ in range(feed.qsize())] == [("endpoint", "digits")] * 4

    runner.run(story())


def test_all_endpoints_are_listed_with_their_own_variants(
    store: Store, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        created = [
            await _create(store, name, initial_instance_count=n) for n, name in enumerate("ab", 1)
        ]
        assert await store.endpoints.list_all() == created
        assert await store.endpoints.list_names() == ["a", "b"]

    runner.run(story())


async def _in_service(store: Store, **variant: Any) -> Endpoint:
    await _create(store, **variant)
    await store.endpoints.record_event("digits", 1, EndpointEvent.READY)
    return await store.endpoints.get("digits")


def a_change(**wanted: Any) -> VariantChange:
    return VariantChange(variant_name="AllTraffic", **wanted)


def test_a_change_of_counts_and_weights_is_wanted_at_once(
    store: Store, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        before = await _in_service(store)
        changes = store.changes.subscribe()

        returned = await store.endpoints.change_variants(
            "digits", [a_change(count=3, weight=0.25)], quotas=QUOTAS
        )

        found = await store.endpoints.get("digits")
        assert found == returned
        assert found.status is EndpointStatus.UPDATING
        assert found.generation == before.generation + 1
        assert found.modified_at > before.modified_at
        assert found.variants == (
            a_variant_state(
                desired_count=3, desired_weight=0.25, previous_count=1, previous_weight=1.0
            ),
        )
        assert await asyncio.wait_for(changes.get(), 5) == (ResourceKind.ENDPOINT, "digits")

    runner.run(story())


def test_a_change_that_is_given_up_is_taken_back(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await _in_service(store)
        await store.endpoints.change_variants(
            "digits", [a_change(count=3, weight=0.25)], quotas=QUOTAS
        )

        await store.endpoints.record_event("digits", 2, EndpointEvent.GAVE_UP, failure_reason="No.")

        found = await store.endpoints.get("digits")
        assert found.status is EndpointStatus.ROLLING_BACK
        assert (found.variants[0].desired_count, found.variants[0].desired_weight) == (1, 1.0)
        await store.endpoints.record_event("digits", 2, EndpointEvent.READY)
        found = await store.endpoints.get("digits")
        assert (found.status, found.failure_reason) == (EndpointStatus.IN_SERVICE, "No.")

        again = await store.endpoints.change_variants(
            "digits", [a_change(weight=0.5)], quotas=QUOTAS
        )
        assert again.failure_reason is None

    runner.run(story())


def test_what_cannot_be_changed_is_refused_and_stays_as_it_was(
    store: Store, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        def change(name: str = "digits", **wanted: Any) -> Coroutine[Any, Any, Endpoint]:
            return store.endpoints.change_variants(
                name, [a_change(**wanted)], quotas=Quotas(total=2)
            )

        with pytest.raises(NotFound, match="Could not find endpoint"):
            await change("nobody")
        creating = await _create(store)
        with pytest.raises(InUse, match="Cannot update in-progress endpoint"):
            await change(weight=1.0)
        assert await store.endpoints.find("digits") == creating

        await store.endpoints.record_event("digits", 1, EndpointEvent.READY)
        before = await store.endpoints.get("digits")
        with pytest.raises(InvalidRequest):
            await change(count=0)
        with pytest.raises(LimitExceeded, match=r"utilization of 1 .* request delta of 2"):
            await change(count=3)
        assert await store.endpoints.find("digits") == before

        await change(count=2)
        with pytest.raises(InUse):  # the first change is not done yet
            await change(count=1)

    runner.run(story())


def test_giving_back_instances_is_never_over_a_quota(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await _in_service(store, initial_instance_count=5)
        lower = Quotas(total=2, by_type={"ml.m5.large": 1})
        found = await store.endpoints.change_variants("digits", [a_change(count=4)], quotas=lower)
        assert found.variants[0].desired_count == 4

    runner.run(story())


def test_a_shadow_variant_is_counted_and_changed_like_another(
    store: Store, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        await store.models.create(a_model())
        config = an_endpoint_config(shadow_variants=(a_variant("Shadow", initial_weight=0.5),))
        await store.endpoint_configs.create(config)
        created = await store.endpoints.create("digits", "digits", quotas=QUOTAS)
        assert await store.endpoints.find("digits") == created
        assert created.shadow_variants == (
            a_variant_state("Shadow", desired_weight=0.5, current_weight=0.5),
        )
        assert await store.endpoints.count_instances_by_type() == {"ml.m5.large": 2}

        await store.endpoints.record_event("digits", 1, EndpointEvent.READY)
        change = VariantChange(variant_name="Shadow", count=2, weight=1.0)
        await store.endpoints.change_variants("digits", [change], quotas=QUOTAS)
        found = await store.endpoints.get("digits")
        assert (found.variants[0].desired_count, found.shadow_variants[0].desired_count) == (1, 2)

    runner.run(story())
