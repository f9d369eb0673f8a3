import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from builders import (
    NAMESPACE,
    a_container,
    a_model,
    a_variant,
    an_endpoint_config,
    an_instance,
)
from clary.clock import SystemClock
from clary.control.loop import ControlLoops
from clary.resources.endpoint import Endpoint, EndpointStatus
from clary.resources.quotas import Quotas
from clary.resources.routing_table import EndpointRoute
from clary.resources.variant_changes import VariantChange
from clary.store import Store
from fleets import ECHO, Site, pack


@dataclass
class Board:
    """Keeps what is published, and what the endpoint's status was then."""

    store: Store
    routes: dict[str, EndpointRoute | None] = field(default_factory=dict)
    history: list[tuple[str, list[str] | None, str | None]] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)
    """Instances that gateways have open invocations with."""

    async def publish(self, name: str, route: EndpointRoute | None) -> None:
        endpoint = await self.store.endpoints.find(name)
        ids = None if route is None else [i.id for v in route.variants for i in v.instances]
        self.routes[name] = route
        self.history.append((name, ids, endpoint.status if endpoint else None))

    def is_draining(self, instance_id: str) -> bool:
        return instance_id in self.busy

    def instances(self, name: str) -> list[str]:
        route = self.routes.get(name)
        return [] if route is None else [i.id for v in route.variants for i in v.instances]


@dataclass
class Control:
    store: Store
    board: Board

    async def create(self, name: str, url: str | None, **variant: Any) -> None:
        container = a_container(image="clary/python", model_data_url=url)
        await self.store.models.create(a_model(name, containers=(container,)))
        variants = (a_variant(model_name=name, instance_type="ml.t2.medium", **variant),)
        await self.store.endpoint_configs.create(an_endpoint_config(name, variants=variants))
        await self.store.endpoints.create(name, name, quotas=Quotas(total=100))

    async def settled(self, name: str, timeout_s: float = 30) -> Endpoint:
        """Wait until the endpoint leaves its ``...ing`` status."""
        async with asyncio.timeout(timeout_s):
            while True:
                endpoint = await self.store.endpoints.get(name)
                if not endpoint.status.endswith("ing"):
                    return endpoint
                await asyncio.sleep(0.005)

    async def until(self, condition: Any, timeout_s: float = 30) -> None:
        async with asyncio.timeout(timeout_s):
            while not await condition():  # noqa: ASYNC110 - looks at processes and rows
                await asyncio.sleep(0.005)


@asynccontextmanager
async def control(site: Site, **settings: Any) -> AsyncIterator[Control]:
    """The control process, but for its API; leaving it is a restart's first half."""
    store = Store.open(site.data_dir / "state.sqlite", NAMESPACE, SystemClock())
    board = Board(store)
    fleet = site.fleet(max_workers=1, **settings)
    loops = ControlLoops(
        store.endpoints,
        store.deployments,
        store.alarms,
        store.instances,
        store.changes,
        fleet,
        board,
        SystemClock(),
        site.settings(**settings).fleet,
    )
    await loops.adopt()
    running = asyncio.create_task(loops.run())
    try:
        yield Control(store, board)
        assert not running.done(), running
    finally:
        running.cancel()
        await asyncio.wait([running])
        await loops.close()
        await asyncio.to_thread(store.close)


def a_model_url(site: Site, code: str = ECHO) -> str:
    return site.storage.put("s3://models/m.tar.gz", pack({"code/inference.py": code}))


def test_an_endpoint_is_created_and_deleted(site: Site) -> None:
    async def story() -> None:
        url = a_model_url(site)
        async with control(site) as c:
            await c.create("digits", url)
            endpoint = await c.settled("digits")

            assert endpoint.status is EndpointStatus.IN_SERVICE
            assert endpoint.variants[0].current_count == 1
            # Gateways know the route before anybody reads InService.
            first = next(entry for entry in c.board.history if entry[1])
            assert first[2] == EndpointStatus.CREATING

            await c.store.endpoints.request_deletion("digits")

            async def is_gone() -> bool:
                return await c.store.endpoints.find("digits") is None

            await c.until(is_gone)
            assert c.board.routes["digits"] is None
            assert await c.store.instances.list_all() == []
        assert not site.processes("clary-host")
        assert not list((site.data_dir / "instances").iterdir())

    asyncio.run(story())


def test_a_failed_creation_says_why_and_keeps_nothing(site: Site) -> None:
    async def story() -> None:
        url = a_model_url(site, "raise RuntimeError('the weights are missing')\n")
        async with control(site, load_attempts=1) as c:
            await c.create("digits", url)
            endpoint = await c.settled("digits")

            assert endpoint.status is EndpointStatus.FAILED
            assert "the weights are missing" in (endpoint.failure_reason or "")

            async def is_empty() -> bool:
                return not await c.store.instances.list("digits")

            await c.until(is_empty)
            assert not site.processes("clary-host")

    asyncio.run(story())


def test_kinds_that_are_not_built_fail_at_once(site: Site) -> None:
    async def story() -> None:
        async with control(site) as c:
            config = an_endpoint_config("digits")
            both = (a_container(mode="MultiModel"), a_container())
            await c.store.models.create(a_model(containers=both))
            await c.store.endpoint_configs.create(config)
            await c.store.endpoints.create("digits", "digits", quotas=Quotas(total=9))
            endpoint = await c.settled("digits")

            assert endpoint.status is EndpointStatus.FAILED
            assert "multi-model" in (endpoint.failure_reason or "")

    asyncio.run(story())


def test_control_adopts_what_runs_and_publishes_it_as_it_is(site: Site) -> None:
    async def story() -> None:
        url = a_model_url(site)
        async with control(site) as c:
            await c.create("digits", url, initial_instance_count=2)
            await c.settled("digits")
            before = c.board.routes["digits"]
        pids = sorted(site.processes("AllTraffic"))

        async with control(site) as c:
            # The very first publication has all of it: no gateway loses a route by a restart.
            assert c.board.history[0][1:] == (
                [i.id for i in before.variants[0].instances],  # type: ignore[union-attr]
                EndpointStatus.IN_SERVICE,
            )
            assert c.board.routes["digits"] == before
            assert sorted(site.processes("AllTraffic")) == pids

    asyncio.run(story())


def test_a_killed_host_is_replaced_while_its_workers_serve(site: Site) -> None:
    async def story() -> None:
        url = a_model_url(site)
        async with control(site) as c:
            await c.create("digits", url)
            await c.settled("digits")
            (old,) = c.board.instances("digits")
            (host,) = site.processes("clary-host", old)
            os.kill(host, signal.SIGKILL)

            async def is_replaced() -> bool:
                ids = c.board.instances("digits")
                assert ids, "the endpoint lost its last worker"
                records = await c.store.instances.list("digits")
                return old not in ids and [r.id for r in records] == ids

            await c.until(is_replaced)
            assert (await c.store.endpoints.get("digits")).status is EndpointStatus.IN_SERVICE
            assert not site.processes(old)

    asyncio.run(story())


def test_everything_comes_back_after_everything_was_killed(site: Site) -> None:
    async def story() -> None:
        url = a_model_url(site)
        async with control(site) as c:
            await c.create("digits", url)
            await c.settled("digits")
            (old,) = c.board.instances("digits")
        for pid in site.processes("AllTraffic"):
            os.kill(pid, signal.SIGKILL)
        site.kill_supervisor()
        site.start_supervisor()

        async with control(site) as c:
            # In service, but nothing has answered a ping in this life.
            assert c.board.history[0][1:] == ([], EndpointStatus.IN_SERVICE)

            async def is_back() -> bool:
                return c.board.instances("digits") == [old]

            await c.until(is_back)
            endpoint = await c.store.endpoints.get("digits")
            assert endpoint.status is EndpointStatus.IN_SERVICE

    asyncio.run(story())


def test_a_record_without_an_endpoint_is_wound_up(site: Site) -> None:
    async def story() -> None:
        store = Store.open(site.data_dir / "state.sqlite", NAMESPACE, SystemClock())
        await store.instances.add([an_instance("i-1", endpoint_name="forgotten")])
        store.close()
        async with control(site) as c:

            async def is_empty() -> bool:
                return not await c.store.instances.list_all()

            await c.until(is_empty)

    asyncio.run(story())


def test_one_endpoint_that_cannot_start_does_not_hold_up_another(site: Site) -> None:
    async def story() -> None:
        bad = site.storage.put("s3://models/bad.tar.gz", b"this is no archive")
        good = a_model_url(site)
        async with control(site) as c:
            await c.create("bad", bad)
            await c.create("good", good)

            assert (await c.settled("good")).status is EndpointStatus.IN_SERVICE
            endpoint = await c.settled("bad")
            assert endpoint.status is EndpointStatus.FAILED
            assert "not a gzip-compressed tar archive" in (endpoint.failure_reason or "")

    asyncio.run(story())


def test_a_surplus_instance_is_stopped_when_its_invocations_are_done(site: Site) -> None:
    async def story() -> None:
        async with control(site) as c:
            await c.create("digits", a_model_url(site), initial_instance_count=2)
            await c.settled("digits")
            c.board.busy.update(c.board.instances("digits"))
            fewer = VariantChange(variant_name="AllTraffic", count=1)

            await c.store.endpoints.change_variants("digits", [fewer], quotas=Quotas(total=2))

            endpoint = await c.settled("digits")
            assert endpoint.variants[0].current_count == 1
            (kept,) = c.board.instances("digits")
            (surplus,) = c.board.busy - {kept}
            # Out of the route and marked, but alive: passes go by and leave it alone.
            assert {r.id: r.stopping for r in await c.store.instances.list("digits")} == {
                kept: False,
                surplus: True,
            }
            await asyncio.sleep(0.4)
            assert site.processes("clary-worker", surplus)

            c.board.busy.clear()

            async def is_gone() -> bool:
                return [r.id for r in await c.store.instances.list("digits")] == [kept]

            await c.until(is_gone)
            assert not site.processes("clary-worker", surplus)
            assert site.processes("clary-worker", kept)

    asyncio.run(story())
