"""Models and configurations, instances and tags."""

import asyncio

import pytest

from builders import NAMESPACE, a_model, a_variant, an_endpoint_config, an_instance
from clary.clock import SystemClock
from clary.errors import AlreadyExists, LimitExceeded, NotFound
from clary.resources.names import ResourceKind
from clary.store import Store


def test_a_model_is_found_by_its_exact_name(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await store.models.create(a_model("Digits"))
        assert await store.models.get("Digits") == a_model("Digits")
        assert await store.models.find("digits") is None
        with pytest.raises(NotFound, match=r'Could not find model "arn:.*:model/digits"'):
            await store.models.get("digits")

    runner.run(story())


def test_a_taken_name_is_refused_in_any_case(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await store.models.create(a_model("Digits"), {"kept": "yes"})
        with pytest.raises(AlreadyExists, match="Cannot create already existing model"):
            await store.models.create(a_model("digits"), {"new": "no"})
        assert await store.tags.list(ResourceKind.MODEL, "digits") == {"kept": "yes"}

    runner.run(story())


def test_a_deleted_name_is_free_and_its_tags_are_gone(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await store.models.create(a_model(), {"a": "b"})
        await store.models.delete("digits")
        with pytest.raises(NotFound):
            await store.models.delete("digits")
        await store.models.create(a_model())
        assert await store.tags.list(ResourceKind.MODEL, "digits") == {}

    runner.run(story())


def test_a_configuration_needs_its_models(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        config = an_endpoint_config(variants=(a_variant(), a_variant("b", model_name="other")))
        await store.models.create(a_model())
        with pytest.raises(NotFound, match=r'Could not find model "arn:.*:model/other"'):
            await store.endpoint_configs.create(config)
        assert await store.endpoint_configs.find("digits") is None
        await store.models.create(a_model("other"))
        await store.endpoint_configs.create(config)
        assert await store.endpoint_configs.get("digits") == config

    runner.run(story())


def test_what_was_written_is_there_after_opening_again(store: Store) -> None:
    asyncio.run(store.models.create(a_model()))
    path = store.database._writer.url.database
    store.close()

    again = Store.open(str(path), NAMESPACE, SystemClock())
    assert asyncio.run(again.models.get("digits")) == a_model()
    again.close()


def test_tags_are_set_replaced_and_removed(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await store.models.create(a_model(), {"a": "1", "b": "2"})
        kind = ResourceKind.MODEL
        assert await store.tags.add(kind, "digits", {"b": "3", "c": ""}) == {
            "a": "1", "b": "3", "c": "",
        }  # fmt: skip
        await store.tags.remove(kind, "digits", ["a", "unknown"])
        assert await store.tags.list(kind, "digits") == {"b": "3", "c": ""}

    runner.run(story())


def test_tags_of_what_is_not_there_are_refused(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        for call in (
            store.tags.add(ResourceKind.ENDPOINT, "x", {"a": "b"}),
            store.tags.list(ResourceKind.ENDPOINT, "x"),
            store.tags.remove(ResourceKind.ENDPOINT, "x", ["a"]),
        ):
            with pytest.raises(NotFound, match="Could not find endpoint"):
                await call

    runner.run(story())


def test_one_tag_too_many_sets_none(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        kind = ResourceKind.MODEL
        await store.models.create(a_model(), {f"{i}": "" for i in range(49)})
        with pytest.raises(LimitExceeded, match="at most 50 tags"):
            await store.tags.add(kind, "digits", {"x": "", "y": ""})
        assert len(await store.tags.list(kind, "digits")) == 49

    runner.run(story())


def test_instances_are_remembered_until_they_are_removed(
    store: Store, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        mine, other = an_instance("i-1"), an_instance("i-2", endpoint_name="other")
        await store.instances.add([mine, other])
        await store.instances.add([])
        assert await store.instances.list("digits") == [mine]
        assert await store.instances.list_all() == [mine, other]

        await store.instances.mark_stopping(["i-1", "i-9"])
        assert [i.stopping for i in await store.instances.list_all()] == [True, False]
        await store.instances.remove("i-1")
        await store.instances.remove("i-1")
        assert await store.instances.list_all() == [other]

    runner.run(story())
