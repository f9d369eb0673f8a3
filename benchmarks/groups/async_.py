"""Asynchronous inference: how fast calls are accepted, answered, and worked off."""

import http.client
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

from async_endpoints import deploy_async, scale
from benchmarks import contenders
from benchmarks.latency import percentile
from benchmarks.load import Load, Request, median, run_wrk
from benchmarks.processes import cpu_s
from benchmarks.results import Bench, Check, Report, ValueRow
from server import Server, wait_for

CLIENTS = 16
QUEUED = 10_000
QUICK_QUEUED = 1000
SINGLE_CALLS = 100
QUICK_SINGLE_CALLS = 10
POLL_S = 0.002
BODY = b'{"instances": [[5.1, 3.5, 1.4, 0.2]]}'

HANDLER = """
import time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    time.sleep(0.001)
    return data, content_type
"""


def run(bench: Bench) -> Report:
    report = Report("Asynchronous inference")
    plan = bench.plan
    count = QUICK_QUEUED if plan.is_quick else QUEUED
    with contenders.clary(bench.directory, CLARY_FLEET_MAX_WORKERS="2") as server:
        server.s3.create_bucket(Bucket="results")
        server.s3.create_bucket(Bucket="inputs")
        server.s3.put_object(Bucket="inputs", Key="one.json", Body=BODY)
        for _ in range(1 if plan.is_quick else 3):
            name = f"drain-{len(report.values)}"
            _drain(report, server, name, count)
        _single(report, server, QUICK_SINGLE_CALLS if plan.is_quick else SINGLE_CALLS)
        _accept(report, bench, server)
    _check(report)
    return report


def _accept(report: Report, bench: Bench, server: Server) -> None:
    """Accept calls of an endpoint without instances, and of one that works meanwhile."""
    deploy_async(server, "idle", HANDLER)
    scale(server, "idle", 0)
    deploy_async(server, "busy", HANDLER)
    for endpoint, remark in (("idle", "nobody works on them"), ("busy", "two workers do")):
        for kind in ("inline", "S3"):
            request = _request(server, endpoint, kind)
            run_wrk(request, connections=CLIENTS, seconds=1)
            loads: list[Load] = []
            used: list[float] = []
            for _ in range(bench.plan.rounds):
                before = cpu_s(server, "clary-control"), cpu_s(server, "clary-gateway")
                load = run_wrk(request, connections=CLIENTS, seconds=bench.plan.seconds)
                after = cpu_s(server, "clary-control"), cpu_s(server, "clary-gateway")
                loads.append(load)
                calls = load.requests_per_s * bench.plan.seconds
                used.append(1e6 * (sum(after) - sum(before)) / calls)
            middle = median(loads)
            what = f"accept, {kind} input, {remark}"
            report.values += [
                ValueRow(
                    what,
                    middle.requests_per_s,
                    "/s",
                    f"p50 {middle.p50_ms:.1f} ms, p99 {middle.p99_ms:.1f} ms, "
                    f"{sorted(used)[len(used) // 2]:.0f} us of CPU a call, {middle.errors} errors",
                )
            ]
            report.checks += [
                Check(f"async: {what}", tuple(each.requests_per_s for each in loads), 1000, "/s"),
                Check(
                    f"async: {what}: p99",
                    tuple(each.p99_ms for each in loads),
                    50,
                    "ms",
                    at_most=True,
                ),
            ]


def _single(report: Report, server: Server, count: int) -> None:
    """One call at a time: until its output object is there."""
    deploy_async(server, "single", HANDLER)
    times: list[float] = []
    with closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        for number in range(count + 5):
            began = time.perf_counter()
            location = _send(connection, _request(server, "single", "inline"))
            path = "/" + location.removeprefix("s3://")
            while True:
                connection.request("HEAD", path)
                reply = connection.getresponse()
                reply.read()
                if reply.status == 200:
                    break
                time.sleep(POLL_S)
            if number >= 5:
                times.append(1e3 * (time.perf_counter() - began))
    p50 = percentile(times, 0.5)
    report.values.append(
        ValueRow(
            "accept to output object, empty queue: p50",
            p50,
            "ms",
            f"p99 {percentile(times, 0.99):.1f} ms",
        )
    )
    report.checks.append(Check("async: accept to output: p50", p50, 100, "ms", at_most=True))


def _drain(report: Report, server: Server, name: str, count: int) -> None:
    """Queue calls while there is no instance, then start one with two workers."""
    deploy_async(server, name, HANDLER)
    scale(server, name, 0)
    request = _request(server, name, "inline")
    threads = [
        threading.Thread(target=_send_many, args=(server, request, count // CLIENTS))
        for _ in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    words = ("clary-control", "clary-gateway", "clary-objects", "clary-jobs", "clary-worker")
    before = {word: cpu_s(server, word) for word in words}
    scale(server, name, 1)
    wait_for(
        lambda: not _open(server, name), timeout_s=120, what="the queue to be empty", poll_s=0.2
    )
    used = {word: cpu_s(server, word) - before[word] for word in words}
    began, ended, done = _row(
        server,
        "SELECT min(started_at), max(ended_at), count(*) FROM async_invocations "
        f"WHERE endpoint = '{name}' AND state = 'done'",
    )
    assert done == count // CLIENTS * CLIENTS, done
    rate = 1e6 * done / (ended - began)  # times are in microseconds
    report.values.append(
        ValueRow(
            f"{done:,} queued calls of 1 ms, 2 workers: drained",
            rate,
            "/s",
            "CPU a call: "
            + ", ".join(f"{word[6:]} {1e6 * s / done:.0f} us" for word, s in used.items()),
        )
    )


def _check(report: Report) -> None:
    rates = tuple(row.value for row in report.values if "queued calls" in row.what)
    report.checks.append(Check("async: queued calls of 1 ms, drained", rates, 500, "/s"))


def _request(server: Server, endpoint: str, kind: str) -> Request:
    url = f"{server.url}/endpoints/{endpoint}/async-invocations"
    headers = {"x-amzn-sagemaker-content-type": "application/json"}
    if kind == "inline":
        return Request(url, BODY, headers)
    return Request(url, b"", {**headers, "x-amzn-sagemaker-inputlocation": "s3://inputs/one.json"})


def _send_many(server: Server, request: Request, count: int) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        for _ in range(count):
            _send(connection, request)


def _send(connection: http.client.HTTPConnection, request: Request) -> str:
    """Make a call; return where its output will be."""
    path = "/" + request.url.split("/", 3)[3]
    connection.request("POST", path, request.body, dict(request.headers))
    reply = connection.getresponse()
    text = reply.read()
    assert reply.status == 202, text
    return reply.headers["x-amzn-sagemaker-outputlocation"]


def _open(server: Server, name: str) -> int:
    query = f"SELECT count(*) FROM async_invocations WHERE endpoint = '{name}' AND ended_at IS NULL"
    return int(_row(server, query)[0])


def _row(server: Server, query: str) -> tuple[float, ...]:
    path = Path(server.data_dir) / "state.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
        found: tuple[float, ...] = database.execute(query).fetchone()
        return found
