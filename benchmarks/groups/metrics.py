"""What measuring costs: calls with metrics on and off; memory of many endpoints' metrics."""

import asyncio
import gc
import os
import statistics
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import contenders
from benchmarks.load import Request, run_wrk
from benchmarks.results import Bench, Check, Report, ValueRow, ratios
from clary.clock import SystemClock
from clary.metrics.endpoint_metrics import dimension_sets, instance_metrics, invocation_metrics
from clary.metrics.exposition import render
from clary.metrics.invocation_totals import InvocationTotals
from clary.metrics.reports import Difference
from clary.metrics.series import MetricStore
from clary.metrics.statistics import StatisticSet
from clary.settings import MetricSettings
from clary.store.database import Database
from collector import Collector
from server import Server, wait_for

BODY = b'{"data": "' + b"x" * 188 + b'"}'  # 200 bytes
ON = "Clary, metrics on"
OFF = "Clary, metrics off"
SPANS = "Clary, spans of every call to a collector"
EXPOSED = 1000
MINUTES = 5


def run(bench: Bench) -> Report:
    report = Report("Metrics")
    files = contenders.files_of("echo")
    requests = {}
    with (
        contenders.clary(bench.directory / "on") as on,
        contenders.clary(bench.directory / "off", CLARY_METRICS_ENABLED="false") as off,
        Collector() as collector,
        contenders.clary(bench.directory / "spans", CLARY_OTEL_ENDPOINT=collector.url) as spans,
    ):
        for name, server in ((ON, on), (OFF, off), (SPANS, spans)):
            server.deploy("echo", files, environment=contenders.ONE_WORKER)
            requests[name] = contenders.invocation(server, "echo", BODY, "application/json")
        report.loads += bench.interleave(requests, (ON, 64), (OFF, 64), (ON, 1), (OFF, 1))
        readable, alarming = _delays(on, bench.plan.rounds)
        costs: dict[str, list[float]] = {ON: [], OFF: [], SPANS: []}
        for _ in range(bench.plan.rounds):
            for name, server in ((ON, on), (OFF, off), (SPANS, spans)):
                costs[name].append(_gateway_us(server, requests[name], bench.plan.seconds))
                collector.spans.clear()
    for connections in (64, 1):
        kept = ratios(report.find(ON, connections), report.find(OFF, connections))
        what = f"calls a second with metrics, of without, {connections} connections"
        report.checks.append(Check(what, kept, 0.95, "x"))
    report.checks += [
        Check("metrics: from a call until its data point is read", readable, 5, "s", at_most=True),
        Check("metrics: from a 1 s data point to its alarm", alarming, 10, "s", at_most=True),
    ]
    for name, values in costs.items():
        what = f"{name}: the gateway's processor time for one call, 64 connections"
        report.values.append(ValueRow(what, statistics.median(values), "µs"))
    report.values.append(_exposition())
    endpoints = 1000 if bench.plan.is_quick else 10_000
    report.values += asyncio.run(_many(bench.directory / "many.sqlite", endpoints))
    report.notes.append(
        "The last rows are of a metric store alone: each endpoint has ten metrics, "
        f"with a value in each of {MINUTES} minutes."
    )
    return report


def _delays(server: Server, rounds: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return how long calls take to become readable, and breaching points to set off alarms."""
    cloudwatch = server.client("cloudwatch")
    readable, alarming = [], []
    for number in range(rounds):
        name = f"delay-{number}"
        server.deploy(name, contenders.files_of("echo"))
        server.invoke(name, BODY, "application/json")
        began = time.monotonic()
        wait_for(lambda name=name: _calls(cloudwatch, name) == 1, what="the call to be counted")
        readable.append(time.monotonic() - began)
        server.delete_endpoint(name)
        point = {"MetricName": name, "Value": 2.0, "StorageResolution": 1}
        cloudwatch.put_metric_alarm(
            AlarmName=name,
            Namespace="Bench",
            MetricName=name,
            Statistic="Maximum",
            Period=10,
            EvaluationPeriods=1,
            Threshold=1.0,
            ComparisonOperator="GreaterThanThreshold",
            TreatMissingData="notBreaching",
        )
        wait_for(lambda name=name: _state(cloudwatch, name) == "OK", what="the first evaluation")
        cloudwatch.put_metric_data(Namespace="Bench", MetricData=[point])
        began = time.monotonic()
        wait_for(
            lambda name=name: _state(cloudwatch, name) == "ALARM", timeout_s=30, what="the alarm"
        )
        alarming.append(time.monotonic() - began)
    return tuple(readable), tuple(alarming)


def _calls(cloudwatch: Any, endpoint: str) -> float:
    """Return the calls of an endpoint that its metrics tell of."""
    now = datetime.now(UTC)
    points = cloudwatch.get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName="Invocations",
        Dimensions=[
            {"Name": "EndpointName", "Value": endpoint},
            {"Name": "VariantName", "Value": "AllTraffic"},
        ],
        StartTime=now - timedelta(minutes=10),
        EndTime=now + timedelta(minutes=5),
        Period=60,
        Statistics=["Sum"],
    )["Datapoints"]
    return sum(point["Sum"] for point in points)


def _state(cloudwatch: Any, alarm: str) -> str:
    found = cloudwatch.describe_alarms(AlarmNames=[alarm])["MetricAlarms"]
    return str(found[0]["StateValue"])


def _exposition() -> ValueRow:
    """Measure what control does for one GET /metrics of a thousand variants."""
    totals = InvocationTotals(EXPOSED)
    times = StatisticSet(60.0, 6e5, 8e3, 2e4, {440: 20.0, 460: 30.0, 480: 10.0})
    for number in range(EXPOSED):
        name = f"endpoint-{number:05}"
        totals.follow(name, {"AllTraffic"}, 0.0)
        change = Difference(invocations=60, model=times, overhead=times)
        totals.add(name, "AllTraffic", "", change, 0.0)
    took = []
    for _ in range(5):
        began = time.process_time()
        size = sum(map(len, render(totals.families(1.0), open_metrics=False)))
        took.append((time.process_time() - began) * 1000)
    what = f"processor time of one GET /metrics, {EXPOSED} variants"
    return ValueRow(what, statistics.median(took), "ms", f"{size / 1e6:.1f} MB of text")


def _gateway_us(server: Server, request: Request, seconds: float) -> float:
    """Return the processor time of the gateway for one call, which other work does not change."""
    (pid,) = server.pids("clary-gateway")
    before = _processor_s(pid)
    load = run_wrk(request, connections=64, seconds=seconds)
    calls = load.requests_per_s * max(1, round(seconds))
    return (_processor_s(pid) - before) / calls * 1e6


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _many(path: Path, endpoints: int) -> list[ValueRow]:
    clock = SystemClock()
    database = Database.open(path)
    store = MetricStore(database, clock, MetricSettings())
    await store.open()
    gc.collect()
    before = resident_mb()
    began = time.process_time()
    now = clock.now() + timedelta(minutes=1)
    series = 0
    for minute in range(MINUTES):
        for number in range(endpoints):
            series += _one_minute(store, f"endpoint-{number:05}", now + timedelta(minutes=minute))
    added = time.process_time() - began
    gc.collect()
    resident = resident_mb() - before
    points, series = store.points_in_memory, series // MINUTES
    began = time.process_time()
    await store.flush()
    written = time.process_time() - began
    began = time.process_time()
    for key in await store.list_metrics():
        await store.statistics(
            key,
            start=now,
            end=now + timedelta(minutes=MINUTES),
            period_s=60,
            statistics=["Sum"],
        )
    read = time.process_time() - began
    await asyncio.to_thread(database.close)
    size = path.stat().st_size / 1e6
    what = f"{endpoints} endpoints, {series} metrics"
    each = f"{points} points in memory"
    return [
        ValueRow(f"{what}: memory", resident, "MB", f"{each}, what waits to be written included"),
        ValueRow(f"{what}: processor time to add {points} points", added, "s"),
        ValueRow(f"{what}: processor time to write them", written, "s", f"{size:.0f} MB on disk"),
        ValueRow(f"{what}: processor time to read each once", read, "s"),
    ]


def _one_minute(store: MetricStore, endpoint: str, at: object) -> int:
    """Add a minute of an endpoint; return how many metrics have a value."""
    times = StatisticSet(60.0, 6e5, 8e3, 2e4, {440: 20.0, 460: 30.0, 480: 10.0})
    change = Difference(invocations=60, model=times, overhead=times)
    (dimensions,) = dimension_sets(endpoint, "AllTraffic")
    usage = {"cpu_percent": 12.5, "memory_percent": 3.0, "disk_percent": 40.0}
    measured = [
        *invocation_metrics(dimensions, change, instances=1),
        *instance_metrics(endpoint, "AllTraffic", "i-1", usage),
    ]
    for each in measured:
        store.add(each.key, at=at, value=each.values, unit=each.unit)  # type: ignore[arg-type]
    return len(measured)


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6
