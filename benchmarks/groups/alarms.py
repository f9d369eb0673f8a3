"""Ten thousand alarms, each on a metric of its own and with a policy to call, in one pass."""

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.results import Bench, Check, Report, ValueRow
from clary.control.alarm_actions import AlarmAction, AlarmActions
from clary.control.alarm_points import AlarmPoints
from clary.control.alarms import AlarmLoops
from clary.metrics.key import MetricKey
from clary.metrics.series import MetricStore
from clary.resources.alarm import AlarmType, AlarmValue, metric_id
from clary.resources.names import Namespace
from clary.settings import MetricSettings
from clary.store import Store

MINUTES = 15
"""Points that each metric has when the first pass begins."""

LIMIT_S = 10.0


@dataclass(slots=True)
class Clock:
    wall: datetime = datetime(2026, 1, 2, 3, 0, 2, tzinfo=UTC)
    uptime: float = 1000.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.uptime

    def move(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.uptime += seconds


@dataclass(slots=True)
class _Policies:
    """Counts calls; what policies decide is another group's business."""

    wanted: int
    calls: int = 0
    all_called: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, _action: AlarmAction) -> None:
        self.calls += 1
        if self.calls == self.wanted:
            self.all_called.set()


def run(bench: Bench) -> Report:
    count = 500 if bench.plan.is_quick else 10_000
    return asyncio.run(_run(bench.directory, count))


async def _run(directory: Path, count: int) -> Report:
    report = Report(f"{count:,} alarms with a policy each")
    clock, policies = Clock(), _Policies(2 * count)
    namespace = Namespace("123456789012", "us-east-1")
    store = Store.open(directory / "state.sqlite", namespace, clock)
    metrics = MetricStore(store.database, clock, MetricSettings())
    await metrics.open()
    keys = [
        MetricKey.of("AWS/SageMaker", "InvocationsPerInstance", {"EndpointName": f"e{number}"})
        for number in range(count)
    ]

    def add(value: float) -> None:
        for key in keys:
            metrics.add(key, at=clock.now(), value=value)

    for _ in range(MINUTES):
        add(1.0)
        clock.move(60)
    arn = "arn:aws:autoscaling:us-east-1:123456789012:scalingPolicy:x:y"
    await asyncio.gather(
        *(
            put_alarm(
                store, key, f"TargetTracking-{dict(key.dimensions)['EndpointName']}-AlarmHigh", arn
            )
            for key in keys
        )
    )
    actions = AlarmActions(store.alarms, {"autoscaling": policies}, clock)
    loops = AlarmLoops(store.alarms, store.changes, AlarmPoints(metrics), actions, clock)
    tracemalloc.start()
    await loops.open()
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] / 2**20
    tracemalloc.stop()

    async def settle() -> None:
        await loops.sweep()
        await actions.carry_out(loops.find)

    first, _ = await took(loops.tick())
    await settle()
    await _expect(store, AlarmValue.OK, count)
    clock.move(60)
    add(1.0)
    quiet, _ = await took(loops.tick())

    clock.move(60)
    add(100.0)
    clock.move(60)
    to_alarm, to_alarm_wall = await took(loops.tick())
    called, called_wall = await took(settle())
    await _expect(store, AlarmValue.ALARM, count)
    assert policies.calls == count, f"{policies.calls} of {count} policies were called"

    add(100.0)
    clock.move(60)

    async def again() -> None:
        await loops.tick()
        await policies.all_called.wait()

    repeated, _ = await took(again())
    store.close()
    report.values += [
        ValueRow("a pass in which nothing changes, CPU", quiet, "s"),
        ValueRow("the first pass, every alarm from INSUFFICIENT_DATA to OK, CPU", first, "s"),
        ValueRow(
            "a pass in which every alarm goes off, CPU",
            to_alarm,
            "s",
            f"{to_alarm_wall:.1f} s wall",
        ),
        ValueRow(
            "their actions called and written down, CPU", called, "s", f"{called_wall:.1f} s wall"
        ),
        ValueRow("a pass in which every alarm is on, its policy called again, CPU", repeated, "s"),
        ValueRow("memory of the alarms as control holds them", held, "MB"),
    ]
    report.checks += [
        Check(f"a pass over {count:,} alarms and policies, CPU", repeated, LIMIT_S, "s", True),
        Check("a pass in which every alarm goes off, CPU", to_alarm + called, LIMIT_S, "s", True),
    ]
    report.notes.append(
        "One process, SQLite on disk; each transition, its history and its action are durable. "
        "A policy is a call that counts; what policies decide is measured with autoscaling."
    )
    return report


async def put_alarm(store: Store, key: MetricKey, name: str, action: str) -> None:
    dimensions = [{"Name": name, "Value": value} for name, value in key.dimensions]
    definition = {
        "Namespace": key.namespace,
        "MetricName": key.name,
        "Dimensions": dimensions,
        "Statistic": "Sum",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 70.0,
        "ComparisonOperator": "GreaterThanThreshold",
        "AlarmActions": [action],
    }
    await store.alarms.put(
        name,
        AlarmType.METRIC,
        definition,
        metric_id=metric_id(key.namespace, key.name, dimensions),
    )


async def _expect(store: Store, value: AlarmValue, count: int) -> None:
    found = [alarm for alarm in await store.alarms.all() if alarm.state.value is value]
    assert len(found) == count, f"{len(found)} of {count} alarms are {value}"


async def took(work: Awaitable[None]) -> tuple[float, float]:
    """Return CPU and wall time of some work, all threads of this process counted."""
    cpu, wall = time.process_time(), time.perf_counter()
    await work
    return time.process_time() - cpu, time.perf_counter() - wall
