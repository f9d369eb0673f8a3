"""Ten thousand target tracking policies that are all called at once, and again, by their alarms."""

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.results import Bench, Check, Report, ValueRow
from clary.control.scaling_calls import PolicyCalls
from clary.control.scaling_changes import CapacityChanges
from clary.control.scaling_policy import Call
from clary.resources.names import Namespace
from clary.resources.scaling import VARIANT_INSTANCES, ScalingPolicy, TargetName, policy_arn
from clary.resources.scaling_policies import TARGET_TRACKING
from clary.resources.tracking_alarms import name_alarms
from clary.store import Store
from clary.store.scalable_resources import Capacity

LIMIT_S = 10.0
CONFIGURATION = {
    "TargetValue": 100.0,
    "PredefinedMetricSpecification": {
        "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
    },
}


class _Clock:
    wall = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.wall.timestamp()


class Variants:
    """Variants with two instances each; changes are done at once."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    async def check(self, resource_id: str, _minimum: int | None) -> Capacity:
        return (await self.read([resource_id]))[resource_id]

    async def read(self, resource_ids: Sequence[str]) -> Mapping[str, Capacity]:
        return {
            name: Capacity(
                desired=self.counts.get(name, 2),
                current=self.counts.get(name, 2),
                is_active=True,
                is_free=True,
            )
            for name in resource_ids
        }

    async def change(self, resource_id: str, capacity: int) -> None:
        self.counts[resource_id] = capacity


def run(bench: Bench) -> Report:
    count = 500 if bench.plan.is_quick else 10_000
    return asyncio.run(_run(bench.directory, count))


async def _run(directory: Path, count: int) -> Report:
    report = Report(f"{count:,} scaling policies called in one pass")
    clock, variants = _Clock(), Variants()
    namespace = Namespace("123456789012", "us-east-1")
    store = Store.open(directory / "scaling.sqlite", namespace, clock)
    policies = await asyncio.gather(*(put_policy(store, number) for number in range(count)))
    resources = {VARIANT_INSTANCES: variants}
    changes = CapacityChanges(
        store.scaling_duty, store.scaling_activities, resources, clock, 3600.0
    )
    high = {policy.alarms[0]: "ALARM" for policy in policies}

    async def states(names: Sequence[str]) -> Mapping[str, str]:
        return {name: high.get(name, "OK") for name in names}

    calls = PolicyCalls(
        store.scaling_duty, store.scaling_activities, changes, resources, states, clock
    )

    async def answer(value: float) -> float:
        for policy in policies:
            call = Call(
                alarm=policy.alarms[0], state="ALARM", value=value, threshold=100.0, is_above=True
            )
            calls.add(policy_arn(namespace, policy), call)
        return await _took(calls.answer())

    at_desired = await answer(100.0)
    again = await answer(100.0)
    deciding = await answer(200.0)
    clock.wall += timedelta(seconds=1)
    asking = await _took(changes.bring_on())
    found = len(variants.counts)
    store.close()
    assert found == count, f"{found} of {count} were scaled"
    report.values += [
        ValueRow("a pass that explains why nothing is done, CPU", at_desired, "s"),
        ValueRow("the same again, nothing to be written, CPU", again, "s"),
        ValueRow("a pass in which all scale out: the intents, CPU", deciding, "s"),
        ValueRow("and the changes asked for, CPU", asking, "s"),
    ]
    report.checks.append(
        Check("scaling: CPU of a pass in which all scale out", deciding, LIMIT_S, "s", at_most=True)
    )
    return report


async def put_policy(store: Store, number: int) -> ScalingPolicy:
    name = TargetName(f"endpoint/e{number}/variant/v", VARIANT_INSTANCES)
    await store.scalable_targets.register(
        name, role_arn="", min_capacity=1, max_capacity=9, enforce=lambda _target: None
    )
    return await store.scaling_policies.put(
        name,
        "p",
        policy_type=TARGET_TRACKING,
        configuration=CONFIGURATION,
        alarms=lambda: name_alarms(name, may_scale_in=True),
    )


async def _took(work: Awaitable[None] | Awaitable[bool]) -> float:
    began = time.process_time()
    await work
    return time.process_time() - began
