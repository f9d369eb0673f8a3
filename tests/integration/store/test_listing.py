import asyncio
import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from builders import A_TIME, a_model, an_endpoint_config
from clary.resources.endpoint import EndpointEvent
from clary.resources.quotas import Quotas
from clary.store import Listing, Store

HOUR = timedelta(hours=1)


async def _names(store: Store, **filters: Any) -> list[str]:
    return [item.name for item in (await store.models.list(Listing(**filters))).items]


@pytest.fixture
def models(store: Store, runner: asyncio.Runner) -> Store:
    """a-0 … a-4, an hour apart; then B-5 at the time of a-4."""

    async def fill() -> None:
        for i in range(5):
            await store.models.create(a_model(f"a-{i}", created_at=A_TIME + i * HOUR))
        await store.models.create(a_model("B-5", created_at=A_TIME + 4 * HOUR))

    runner.run(fill())
    return store


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["B-5", "a-4", "a-3", "a-2", "a-1", "a-0"]),
        ({"sort_by": "Name", "descending": False}, ["a-0", "a-1", "a-2", "a-3", "a-4", "B-5"]),
        ({"sort_by": "Name"}, ["B-5", "a-4", "a-3", "a-2", "a-1", "a-0"]),
        ({"descending": False, "limit": 2}, ["a-0", "a-1"]),
        ({"name_contains": "b-"}, ["B-5"]),
        ({"name_contains": "A-3"}, ["a-3"]),
        ({"name_contains": "%"}, []),
        ({"name_contains": "_"}, []),
        ({"created_after": A_TIME + 4 * HOUR}, ["B-5", "a-4"]),
        ({"created_before": A_TIME + HOUR}, ["a-0"]),
        ({"created_after": A_TIME + HOUR, "created_before": A_TIME + 2 * HOUR}, ["a-1"]),
    ],
)
def test_filters_and_order(
    models: Store, runner: asyncio.Runner, filters: dict[str, Any], expected: list[str]
) -> None:
    assert runner.run(_names(models, **filters)) == expected


@pytest.mark.parametrize("sort_by", ["Name", "CreationTime"])
@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("limit", [1, 2, 4])
def test_pages_together_are_the_whole_list(
    models: Store, runner: asyncio.Runner, sort_by: Any, descending: bool, limit: int
) -> None:
    async def walk() -> list[str]:
        listing = Listing(sort_by=sort_by, descending=descending, limit=limit)
        names: list[str] = []
        while True:
            page = await models.models.list(listing)
            assert len(page.items) <= limit
            names += [item.name for item in page.items]
            if page.next is None:
                return names
            listing = dataclasses.replace(listing, after=page.next)

    whole = runner.run(_names(models, sort_by=sort_by, descending=descending, limit=100))
    assert runner.run(walk()) == whole


def test_what_comes_and_goes_between_two_pages_moves_nothing(
    models: Store, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        listing = Listing(sort_by="Name", descending=False, limit=2)
        first = await models.models.list(listing)
        await models.models.create(a_model("a-00"))  # before the place where the page ended
        await models.models.delete("a-0")
        await models.models.delete("a-1")  # the very last row of that page
        second = await models.models.list(dataclasses.replace(listing, after=first.next))
        assert [item.name for item in second.items] == ["a-2", "a-3"]

    runner.run(story())


def test_endpoints_are_filtered_and_sorted_by_status_and_by_change(
    store: Store, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        await store.models.create(a_model())
        await store.endpoint_configs.create(an_endpoint_config())
        for name in "abc":
            await store.endpoints.create(name, "digits", quotas=Quotas(total=9))
        await store.endpoints.record_event("a", 1, EndpointEvent.READY)
        changed = (await store.endpoints.get("a")).modified_at

        async def names(**filters: Any) -> list[str]:
            page = await store.endpoints.list(Listing(**filters))
            return [item.name for item in page.items]

        assert await names(status="Creating") == ["c", "b"]
        assert await names(sort_by="Status", descending=False) == ["b", "c", "a"]
        assert await names(modified_after=changed - timedelta(milliseconds=1)) == ["a"]
        assert await names(modified_after=changed) == []
        assert await names(modified_before=changed) == ["c", "b"]

        one = await store.endpoints.list(Listing(sort_by="Status", limit=1))
        two = await store.endpoints.list(Listing(sort_by="Status", limit=2, after=one.next))
        assert [i.name for i in (*one.items, *two.items)] == ["a", "c", "b"]

    runner.run(story())
