"""Who gets a place at which instance, and when."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import wraps
from types import SimpleNamespace
from typing import Any, cast

import pytest

from clary.jobs.async_lanes import Lane, Place
from clary.metrics.registry import VariantCounters
from clary.resources.routing_table import AsyncRoute, EndpointRoute
from clary.router.router import Router
from clary.router.table import Endpoint, Instance, Variant, Worker


@dataclass
class Peer:
    """A channel's numbers."""

    is_ready: bool = True
    concurrency: int = 1


class Site:
    """One endpoint whose instances have a worker each, and so two places."""

    def __init__(self, *names: str) -> None:
        self.peers = {name: Peer() for name in names}
        self.show(*names)
        self.lane = Lane(cast(Router, SimpleNamespace(find=lambda _: self.endpoint)), "e")
        self.asked: list[asyncio.Task[Place]] = []

    def show(self, *names: str) -> None:
        """Make these the instances."""
        instances = tuple(
            Instance(name, "c", (Worker(name, name, cast(Any, self.peers[name])),))
            for name in names
        )
        variant = Variant("v", 1.0, instances, VariantCounters())
        route = EndpointRoute(name="e", variants=(), asynchronous=AsyncRoute())
        self.endpoint = Endpoint("e", (variant,), route)

    async def ask(self, *, alone: bool = False) -> asyncio.Task[Place]:
        """Ask for a place; the task is done once there is one."""
        task = asyncio.create_task(self.lane.enter(alone=alone))
        self.asked.append(task)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task

    async def leave(self, task: asyncio.Task[Place]) -> None:
        self.lane.leave(task.result())
        await asyncio.sleep(0)

    def close(self) -> None:
        for task in self.asked:
            task.cancel()


def with_site(
    *names: str,
) -> Callable[[Callable[[Site], Coroutine[Any, Any, None]]], Callable[[], None]]:
    """Run a test on a loop, with a site."""

    def decorate(test: Callable[[Site], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        async def run() -> None:
            site = Site(*names)
            try:
                await test(site)
            finally:
                site.close()

        @wraps(test)
        def wrapper() -> None:
            asyncio.run(run())

        del wrapper.__wrapped__  # pytest would ask for a fixture "site"
        return wrapper

    return decorate


@with_site("a")
async def test_places_are_given_in_the_order_of_asking(site: Site) -> None:
    first, second, third, fourth = [await site.ask() for _ in range(4)]
    assert (first.done(), second.done(), third.done(), fourth.done()) == (True, True, False, False)

    await site.leave(first)

    assert third.done()
    assert not fourth.done()


@with_site("a")
async def test_who_stops_waiting_leaves_its_turn_to_the_next(site: Site) -> None:
    first, _, third, fourth = [await site.ask() for _ in range(4)]
    third.cancel()
    await asyncio.sleep(0)
    await site.leave(first)

    assert fourth.done()


@with_site("a")
async def test_who_stops_waiting_just_then_gives_the_place_back(site: Site) -> None:
    first, _, third, fourth = [await site.ask() for _ in range(4)]
    site.lane.leave(first.result())
    third.cancel()
    with pytest.raises(asyncio.CancelledError):
        await third
    await asyncio.sleep(0)

    assert fourth.done()


@with_site("a")
async def test_who_is_to_be_alone_waits_until_the_others_have_left(site: Site) -> None:
    first, second = await site.ask(), await site.ask()
    alone = await site.ask(alone=True)
    later = await site.ask()
    await site.leave(first)
    assert not alone.done()
    assert not later.done()  # else there might always be somebody

    await site.leave(second)
    assert alone.result().instance.id == "a"
    assert not later.done()

    await site.leave(alone)
    assert later.done()


@with_site("a")
async def test_two_are_not_alone_together(site: Site) -> None:
    first, second = await site.ask(alone=True), await site.ask(alone=True)
    assert first.done()
    assert not second.done()

    await site.leave(first)

    assert second.done()


@with_site("a", "b")
async def test_the_others_go_on_at_other_instances(site: Site) -> None:
    first = await site.ask()
    alone = await site.ask(alone=True)
    others = [await site.ask() for _ in range(2)]

    assert alone.done()  # at the one that had none
    assert {first.result().instance.id, alone.result().instance.id} == {"a", "b"}
    assert [other.done() for other in others] == [True, False]
    assert others[0].result().instance is first.result().instance


@with_site("a", "b")
async def test_one_instance_only_is_kept_free_for_who_waits(site: Site) -> None:
    both = [await site.ask() for _ in range(3)]
    alone = await site.ask(alone=True)
    assert not alone.done()
    fewest = min("ab", key=[task.result().instance.id for task in both].count)
    [only] = [task for task in both if task.result().instance.id == fewest]
    others = [task for task in both if task is not only]

    await site.leave(others[0])
    another = await site.ask()

    assert another.result().instance.id == others[0].result().instance.id
    await site.leave(only)
    assert alone.result().instance.id == fewest


@with_site("a")
async def test_an_instance_is_not_kept_for_who_has_stopped_waiting(site: Site) -> None:
    await site.ask()
    alone = await site.ask(alone=True)
    later = await site.ask()
    alone.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert later.done()


@with_site("a", "b")
async def test_an_instance_that_was_kept_and_has_gone_is_kept_no_longer(site: Site) -> None:
    names = [(await site.ask()).result().instance.id for _ in range(3)]
    alone = await site.ask(alone=True)
    other = max("ab", key=names.count)  # the one with fewer calls was kept

    site.show(other)
    for task in site.asked:
        if task.done() and task.result().instance.id == other:
            await site.leave(task)

    assert alone.result().instance.id == other


@with_site("a")
async def test_nobody_has_a_place_where_no_worker_is(site: Site) -> None:
    site.peers["a"].is_ready = False
    call, alone = await site.ask(), await site.ask(alone=True)
    assert site.lane.limit == 0
    assert not call.done()
    assert not alone.done()

    site.peers["a"].is_ready = True
    site.lane.look()
    await asyncio.sleep(0)

    assert alone.done()  # who is suspected goes first: it was there before
    assert not call.done()
