"""One evaluation of everything at once: 10,000 endpoints with ten metrics each, whose alarms all go
off, call their policies, and have every endpoint scaled out."""

import asyncio
import gc
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.groups.alarms import Clock, put_alarm, took
from benchmarks.groups.metrics import resident_mb
from benchmarks.groups.scaling import Variants, put_policy
from benchmarks.results import Bench, Check, Report, ValueRow
from clary.control.alarm_actions import AlarmAction, AlarmActions
from clary.control.alarm_points import AlarmPoints
from clary.control.alarms import AlarmLoops
from clary.control.scaling_calls import PolicyCalls, call_of
from clary.control.scaling_changes import CapacityChanges
from clary.metrics.endpoint_metrics import (
    Measured,
    dimension_sets,
    instance_metrics,
    invocation_metrics,
)
from clary.metrics.key import MetricKey
from clary.metrics.reports import Difference
from clary.metrics.series import MetricStore
from clary.metrics.statistics import StatisticSet
from clary.resources.names import Namespace
from clary.resources.scaling import VARIANT_INSTANCES, policy_arn
from clary.settings import MetricSettings
from clary.store import Store

MINUTES = 5
LIMIT_S = 10.0
LATENCIES = StatisticSet(60.0, 6e5, 8e3, 2e4, {440: 20.0, 460: 30.0, 480: 10.0})
USAGE = {"cpu_percent": 12.5, "memory_percent": 3.0, "disk_percent": 40.0}


def run(bench: Bench) -> Report:
    count = 500 if bench.plan.is_quick else 10_000
    return asyncio.run(_run(bench.directory, count))


async def _run(directory: Path, count: int) -> Report:
    report = Report(f"{count:,} alarms and {count:,} policies in one evaluation")
    gc.collect()
    empty = resident_mb()
    clock, variants = Clock(), Variants()
    namespace = Namespace("123456789012", "us-east-1")
    store = Store.open(directory / "evaluation.sqlite", namespace, clock)
    metrics = MetricStore(store.database, clock, MetricSettings())
    await metrics.open()
    policies = await asyncio.gather(*(put_policy(store, number) for number in range(count)))
    await asyncio.gather(
        *(
            put_alarm(store, _key(number), policy.alarms[0], policy_arn(namespace, policy))
            for number, policy in enumerate(policies)
        )
    )

    def a_minute(calls: int) -> int:
        series = 0
        for number in range(count):
            for each in _measured(number, calls):
                metrics.add(each.key, at=clock.now(), value=each.values, unit=each.unit)
                series += 1
        return series

    for _ in range(MINUTES):
        series = a_minute(1)
        clock.move(60)
        await metrics.flush()
    resources = {VARIANT_INSTANCES: variants}
    changes = CapacityChanges(
        store.scaling_duty, store.scaling_activities, resources, clock, 3600.0
    )

    async def states(names: Sequence[str]) -> Mapping[str, str]:
        return {name: state.value for name, state in (await store.alarms.states(names)).items()}

    policy_calls = PolicyCalls(
        store.scaling_duty, store.scaling_activities, changes, resources, states, clock
    )

    async def call(action: AlarmAction) -> None:
        policy_calls.add(action.arn, call_of(action))

    actions = AlarmActions(store.alarms, {"autoscaling": call}, clock)
    loops = AlarmLoops(store.alarms, store.changes, AlarmPoints(metrics), actions, clock)
    await loops.open()
    await loops.tick()
    await loops.sweep()
    clock.move(60)

    async def evaluate() -> None:
        await loops.tick()
        await loops.sweep()
        await actions.carry_out(loops.find)
        await policy_calls.answer()
        await changes.bring_on()

    a_minute(1)
    clock.move(60)
    quiet, _ = await took(evaluate())
    a_minute(1000)
    clock.move(60)
    worst, wall = await took(evaluate())
    scaled = sum(capacity > 2 for capacity in variants.counts.values())
    assert scaled == count, f"{scaled} of {count} endpoints were scaled out"
    gc.collect()
    held = resident_mb() - empty
    store.close()
    report.values += [
        ValueRow("an evaluation in which nothing changes, CPU", quiet, "s"),
        ValueRow(
            "one in which every alarm goes off and every policy scales out, CPU",
            worst,
            "s",
            f"{wall:.1f} s wall; states, histories, events, intents and changes are durable",
        ),
        ValueRow(
            f"memory, with {series:,} metrics of {MINUTES + 2} minutes",
            held,
            "MB",
            "what the evaluation left for the next one included",
        ),
    ]
    what = f"{count:,} alarms and policies, all at once, CPU"
    report.checks.append(Check(what, worst, LIMIT_S, "s", at_most=True))
    report.notes.append("One process, SQLite on disk; the endpoints' counts change at once.")
    return report


def _key(number: int) -> MetricKey:
    (dimensions,) = dimension_sets(f"e{number}", "v")
    return MetricKey.of("AWS/SageMaker", "InvocationsPerInstance", dimensions)


def _measured(number: int, calls: int) -> list[Measured]:
    change = Difference(invocations=calls, model=LATENCIES, overhead=LATENCIES)
    (dimensions,) = dimension_sets(f"e{number}", "v")
    return [
        *invocation_metrics(dimensions, change, instances=1),
        *instance_metrics(f"e{number}", "v", f"i-{number}", USAGE),
    ]
