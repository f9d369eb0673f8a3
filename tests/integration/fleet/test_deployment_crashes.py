"""Control is killed after each single thing that it does in a deployment, and goes on from there.

Real store, real passes; the fleet and the gateways are values that outlive control.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from builders import NAMESPACE, a_model, a_variant, an_endpoint_config
from clary.clock import SystemClock
from clary.control.demand import Demand
from clary.control.endpoint_plan import StartLimits
from clary.control.endpoints import EndpointReconciler
from clary.control.serverless import ServerlessScaling
from clary.fleet.instance import InstanceOrder, ObservedInstance
from clary.fleet.launchers.base import InstanceState
from clary.resources.endpoint import Endpoint, EndpointStatus
from clary.resources.quotas import Quotas
from clary.resources.routing_table import ContainerRoute, EndpointRoute
from clary.store import Store
from clary.store.deployments import Update
from deployments import alarmed, canary, rolling

LIMITS = StartLimits(startup_timeout_s=480, download_timeout_s=3600)
QUOTAS = Quotas(total=100)


class Killed(Exception):
    """Stands for ``kill -9``."""


@dataclass
class Life:
    """One life of control: after so many operations it is over."""

    operations: float = float("inf")

    def spend(self) -> None:
        if self.operations <= 0:
            raise Killed
        self.operations -= 1


@dataclass
class Mortal:
    """Passes calls on while control lives."""

    life: Life
    target: Any
    operations: Collection[str]

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.target, name)
        if name not in self.operations:
            return call

        async def spend_and_call(*args: Any, **kwargs: Any) -> Any:
            self.life.spend()
            return await call(*args, **kwargs)

        return spend_and_call


@dataclass
class World:
    """Fleet and gateways."""

    breaks: str = ""
    """Name of the model whose instances fail."""

    instances: dict[str, ObservedInstance] = field(default_factory=dict)
    routes: list[EndpointRoute] = field(default_factory=list)

    async def observe(self, endpoint_name: str) -> Sequence[ObservedInstance]:
        return list(self.instances.values())

    async def start(self, order: InstanceOrder) -> None:
        fails = order.model.name == self.breaks
        self.instances.setdefault(
            order.id,
            ObservedInstance(
                id=order.id,
                endpoint_name=order.endpoint_name,
                variant_name=order.variant_name,
                state=InstanceState.FAILED if fails else InstanceState.HEALTHY,
                reason="It broke." if fails else None,
                containers=(ContainerRoute(name=order.model.name, workers=("unix:/w",)),),
            ),
        )

    def scale(self, instance_id: str, workers: int, ending: Collection[str]) -> None:
        raise AssertionError("nothing here is serverless")

    async def stop(self, instance_id: str) -> None:
        if self.routes and instance_id in ids_of(self.routes[-1]):
            raise AssertionError("an instance was stopped that gateways still know")
        self.instances.pop(instance_id, None)

    def ids(self) -> Collection[str]:
        return set(self.instances)

    async def discard(self, ids: Collection[str]) -> None: ...

    async def publish(self, name: str, route: EndpointRoute | None) -> None:
        if route is not None:  # else it is being created
            self.routes.append(route)

    def is_draining(self, instance_id: str) -> bool:
        return False


def ids_of(route: EndpointRoute) -> set[str]:
    return {instance.id for variant in route.variants for instance in variant.instances}


@dataclass(frozen=True)
class Alarm:
    value: str
    reason: str = "The value was 7."


@dataclass
class Alarms:
    by_name: dict[str, Alarm] = field(default_factory=dict)

    async def states(self, names: Sequence[str]) -> Mapping[str, Alarm]:
        return {name: self.by_name[name] for name in names if name in self.by_name}


def a_control(store: Store, world: World, alarms: Alarms, life: Life) -> EndpointReconciler:
    def mortal(target: Any, *operations: str) -> Any:
        return Mortal(life, target, operations)

    return EndpointReconciler(
        mortal(store.endpoints, "record_event", "record_variants", "remove"),
        mortal(store.deployments, "record"),
        alarms,
        mortal(store.instances, "add", "mark_stopping", "remove"),
        mortal(world, "start", "stop"),
        mortal(world, "publish"),
        SystemClock(),
        LIMITS,
        ServerlessScaling(Demand(SystemClock(), idle_s=1.0), world, max_workers=1),
    )


@asynccontextmanager
async def an_endpoint(directory: Path, count: int) -> AsyncIterator[tuple[Store, World]]:
    """An endpoint that serves, and a configuration that it can be updated to."""
    store = Store.open(directory / "state.sqlite", NAMESPACE, SystemClock())
    world = World()
    for name in ("old", "new"):
        await store.models.create(a_model(name))
        variant = a_variant(model_name=name, initial_instance_count=count)
        await store.endpoint_configs.create(an_endpoint_config(name, variants=(variant,)))
    await store.endpoints.create("digits", "old", quotas=QUOTAS)
    control = a_control(store, world, Alarms(), Life())
    while (await store.endpoints.get("digits")).status is EndpointStatus.CREATING:
        await control.reconcile("digits")
    world.routes.clear()
    yield store, world
    await asyncio.to_thread(store.close)


async def live_through(
    store: Store, world: World, alarms: Alarms, *, is_mortal: bool = True
) -> Endpoint:
    """Run passes till nothing is left to do, each killed after one operation more than the last."""
    for number in range(400):
        life = Life(number % 12 if is_mortal else float("inf"))
        control = a_control(store, world, alarms, life)
        try:
            await control.reconcile("digits")
        except Killed:
            continue
        endpoint = await store.endpoints.get("digits")
        records = await store.instances.list("digits")
        if (
            endpoint.status is not EndpointStatus.UPDATING
            and endpoint.status is not EndpointStatus.ROLLING_BACK
            and {record.fleet for record in records} == {endpoint.fleet}
        ):
            return endpoint
    raise AssertionError("it never ended")


def served(world: World) -> list[int]:
    """How many instances had traffic in each route that was published."""
    return [
        sum(len(variant.instances) for variant in route.variants if variant.share > 0)
        for route in world.routes
    ]


STRATEGIES: dict[str, dict[str, Any] | None] = {
    "none": None,
    "canary": canary(wait_s=0, last_wait_s=0),
    "rolling": rolling(wait_s=0),
    "rolling, back one by one": rolling(rollback=1, wait_s=0),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_arrives_wherever_control_is_killed(tmp_path: Path, strategy: str) -> None:
    async def story() -> None:
        async with an_endpoint(tmp_path, 3) as (store, world):
            await store.deployments.begin(
                Update(
                    endpoint_name="digits",
                    config_name="new",
                    deployment_config=STRATEGIES[strategy],
                ),
                quotas=QUOTAS,
            )
            endpoint = await live_through(store, world, Alarms())
            assert endpoint.config.name == "new"
            assert endpoint.deployment is None
            assert [i.containers[0].name for i in world.instances.values()] == ["new"] * 3
            assert min(served(world)) >= 3

    asyncio.run(story())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_goes_back_wherever_control_is_killed(tmp_path: Path, strategy: str) -> None:
    async def story() -> None:
        async with an_endpoint(tmp_path, 3) as (store, world):
            world.breaks = "new"
            await store.deployments.begin(
                Update(
                    endpoint_name="digits",
                    config_name="new",
                    deployment_config=STRATEGIES[strategy],
                ),
                quotas=QUOTAS,
            )
            endpoint = await live_through(store, world, Alarms())
            assert (endpoint.config.name, endpoint.failure_reason) == ("old", "It broke.")
            assert [i.containers[0].name for i in world.instances.values()] == ["old"] * 3
            assert min(served(world)) >= 3

    asyncio.run(story())


@pytest.mark.parametrize("strategy", ["canary", "rolling", "rolling, back one by one"])
def test_an_alarm_in_the_middle_brings_the_old_fleet_back(tmp_path: Path, strategy: str) -> None:
    async def story() -> None:
        async with an_endpoint(tmp_path, 3) as (store, world):
            alarms = Alarms({"errors": Alarm("OK")})
            policy = STRATEGIES[strategy]
            assert policy is not None
            await store.deployments.begin(
                Update(
                    endpoint_name="digits",
                    config_name="new",
                    deployment_config={**policy, **alarmed("errors")},
                ),
                quotas=QUOTAS,
            )
            control = a_control(store, world, alarms, Life())
            while not any(v.config_name == "new" and v.weight for v in _variants(world)):
                await control.reconcile("digits")
            alarms.by_name["errors"] = replace(alarms.by_name["errors"], value="ALARM")
            endpoint = await live_through(store, world, alarms)
            assert endpoint.config.name == "old"
            assert 'alarm "errors" is in state ALARM. The value was 7.' in (
                endpoint.failure_reason or ""
            )
            assert [i.containers[0].name for i in world.instances.values()] == ["old"] * 3
            assert min(served(world)) >= 3

    asyncio.run(story())


def _variants(world: World) -> Sequence[Any]:
    return world.routes[-1].variants if world.routes else ()
