"""From gateways' reports to metrics: several gateways, restarts of either side, updates."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clary.control.gateway_metrics import FORGET_AFTER_S, GatewayMetrics
from clary.metrics.invocation_totals import InvocationTotals
from clary.metrics.key import MetricKey
from clary.metrics.registry import Registry
from clary.metrics.series import MetricStore
from clary.resources.routing_table import (
    ContainerRoute,
    EndpointRoute,
    InstanceRoute,
    VariantRoute,
)
from clary.settings import MetricSettings
from clary.store.database import Database

NOW = datetime(2026, 3, 4, 12, 0, 30, tzinfo=UTC)
SERVED = {"EndpointName": "digits", "VariantName": "A"}


class Clock:
    moment = NOW

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredVariant(VariantRoute):
    """A variant that says which configuration it runs."""

    config_name: str = ""


def route(instances: int = 2, config: str = "c-1") -> EndpointRoute:
    containers = (ContainerRoute(name="primary", workers=("unix:/w",)),)
    serving = tuple(InstanceRoute(id=f"i-{n}", containers=containers) for n in range(instances))
    variant = ConfiguredVariant(name="A", weight=1.0, instances=serving, config_name=config)
    return EndpointRoute(name="digits", variants=(variant,))


class Control:
    """A control process, as often as it is started."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "state.sqlite"
        self.clock = Clock()

    def run(self, story: Callable[[GatewayMetrics, MetricStore], Awaitable[Any]]) -> Any:
        """Do something in one life, which ends as by ``kill -9``."""

        async def live() -> Any:
            database = Database.open(self.path)
            try:
                store = MetricStore(database, self.clock, MetricSettings())
                await store.open()
                metrics = GatewayMetrics(store, self.clock, InvocationTotals(1000))
                metrics.follow_route("digits", route())
                return await story(metrics, store)
            finally:
                await asyncio.to_thread(database.close)

        return asyncio.run(live())

    async def sum(self, store: MetricStore, name: str, **dimensions: str) -> float | None:
        key = MetricKey.of("AWS/SageMaker", name, {**SERVED, **dimensions})
        found = await store.statistics(
            key,
            start=NOW - timedelta(minutes=30),
            end=NOW + timedelta(minutes=30),
            period_s=7200,
            statistics=["Sum"],
        )
        return found[0][1]["Sum"] if found else None


@pytest.fixture
def control(tmp_path: Path) -> Control:
    return Control(tmp_path)


def call(gateway: Registry, times: int, config: str = "") -> None:
    counters = gateway.variant("digits", "A", config)
    counters.invocations += times
    counters.model.samples.extend([0.01] * times)


def tell(metrics: GatewayMetrics, gateway: Registry, *, all_of_it: bool = True) -> None:
    metrics.take(json.loads(json.dumps(gateway.report(all_of_it=all_of_it))))


def test_gateways_add_up(control: Control) -> None:
    async def story(metrics: GatewayMetrics, store: MetricStore) -> None:
        gateways = [Registry(), Registry()]
        for gateway in gateways:
            call(gateway, 3)
            tell(metrics, gateway)
        call(gateways[0], 1)
        tell(metrics, gateways[0], all_of_it=False)
        assert await control.sum(store, "Invocations") == 7
        assert await control.sum(store, "InvocationsPerInstance") == 3.5
        assert await control.sum(store, "ModelLatency") == pytest.approx(70_000)

    control.run(story)


def test_a_control_that_was_killed_takes_what_it_had_not_written_again(control: Control) -> None:
    gateway = Registry()

    async def first(metrics: GatewayMetrics, store: MetricStore) -> None:
        call(gateway, 3)
        tell(metrics, gateway)
        await store.flush()
        call(gateway, 2)
        tell(metrics, gateway, all_of_it=False)  # seen, and not written

    async def second(metrics: GatewayMetrics, store: MetricStore) -> None:
        tell(metrics, gateway)
        assert await control.sum(store, "Invocations") == 5
        assert await control.sum(store, "ModelLatency") == pytest.approx(50_000)

    control.run(first)
    control.run(second)


def test_another_life_of_a_gateway_begins_at_nothing(control: Control) -> None:
    async def story(metrics: GatewayMetrics, store: MetricStore) -> None:
        for _ in range(2):
            gateway = Registry()
            call(gateway, 3)
            tell(metrics, gateway)
        assert await control.sum(store, "Invocations") == 6

    control.run(story)


def test_an_endpoint_of_the_same_name_begins_at_nothing(control: Control) -> None:
    async def story(metrics: GatewayMetrics, store: MetricStore) -> None:
        gateway = Registry()
        call(gateway, 3)
        tell(metrics, gateway)
        gateway.forget("digits")
        call(gateway, 2)
        tell(metrics, gateway, all_of_it=False)
        assert await control.sum(store, "Invocations") == 5
        await store.flush()
        assert len(store.marks(gateway.life)) == 1

    control.run(story)


def test_open_calls_of_all_gateways_are_one_instances_load(control: Control) -> None:
    async def story(metrics: GatewayMetrics, store: MetricStore) -> None:
        for load in (3, 4):
            gateway = Registry()
            gateway.note_load("i-1", load)
            gateway.note_load("i-unknown", 99)
            tell(metrics, gateway)
        key = MetricKey.of("AWS/SageMaker", "ConcurrentRequestsPerModel", SERVED)
        found = await store.statistics(
            key,
            start=NOW,
            end=NOW + timedelta(seconds=10),
            period_s=10,
            statistics=["Maximum", "Minimum"],
        )
        assert found == [(NOW, {"Maximum": 7.0, "Minimum": 3.0})]

    control.run(story)


def test_an_updated_endpoint_has_its_configuration_as_a_dimension_from_then_on(
    control: Control,
) -> None:
    gateway = Registry()

    async def first(metrics: GatewayMetrics, store: MetricStore) -> None:
        call(gateway, 1, "c-1")
        tell(metrics, gateway)
        assert await control.sum(store, "Invocations", EndpointConfigName="c-1") is None
        metrics.follow_route("digits", route(config="c-2"))
        call(gateway, 2, "c-2")
        tell(metrics, gateway)
        await store.flush()

    async def second(metrics: GatewayMetrics, store: MetricStore) -> None:
        call(gateway, 3, "c-2")
        tell(metrics, gateway)
        assert await control.sum(store, "Invocations", EndpointConfigName="c-2") == 5
        assert await control.sum(store, "Invocations") == 6

    control.run(first)
    control.run(second)


def test_a_gateway_that_is_silent_for_long_is_forgotten(control: Control) -> None:
    async def story(metrics: GatewayMetrics, store: MetricStore) -> None:
        gateway = Registry()
        call(gateway, 1)
        tell(metrics, gateway)
        await store.flush()
        assert store.marks(gateway.life)
        control.clock.moment = NOW + timedelta(seconds=FORGET_AFTER_S + 1)
        await store.flush()
        assert not store.marks(gateway.life)

    control.run(story)


def test_what_serves_is_zero_and_what_is_gone_is_not(control: Control) -> None:
    async def story(metrics: GatewayMetrics, store: MetricStore) -> None:
        control.clock.moment = NOW + timedelta(minutes=3)
        assert await control.sum(store, "Invocations") == 0
        metrics.follow_route("digits", None)
        other = replace(route(), name="other")
        metrics.follow_route("other", other)
        control.clock.moment = NOW + timedelta(minutes=9)
        key = MetricKey.of("AWS/SageMaker", "Invocations", SERVED)
        found = await store.statistics(
            key,
            start=NOW,
            end=NOW + timedelta(minutes=20),
            period_s=60,
            statistics=["Sum"],
        )
        assert len(found) == 2

    control.run(story)
