"""The embedded S3, by one boto3 client; and what a large upload does to invocations beside it."""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import uvloop

from benchmarks import contenders
from benchmarks.groups.echo import BODY
from benchmarks.latency import Steady, SteadyClient, http_bytes, percentile
from benchmarks.load import Request
from benchmarks.results import Bench, Check, Report, ValueRow
from server import Server

BUCKET = "bench"
LARGE = 64_000_000
SMALL = 1000
SMALL_CALLS = 600
RATE = 1000
CONNECTIONS = 64
QUIET_S = 2.0

UPLOAD = """
import sys, boto3
from boto3.s3.transfer import TransferConfig
boto3.client("s3").upload_file(
    sys.argv[1], sys.argv[2], "large", Config=TransferConfig(use_threads=False)
)
"""
"""One thread, in a process of its own, as the one that invokes is in another."""


def run(bench: Bench) -> Report:
    report = Report("Embedded S3")
    with contenders.clary(bench.directory) as server:
        server.s3.create_bucket(Bucket=BUCKET)
        _large(report, bench, server)
        _small(report, bench, server)
        _beside_invocations(report, bench, server)
    return report


def _large(report: Report, bench: Bench, server: Server) -> None:
    body = os.urandom(LARGE)
    puts, gets = [], []
    for _ in range(bench.plan.rounds + 1):
        puts.append(_seconds(lambda: server.s3.put_object(Bucket=BUCKET, Key="64", Body=body)))
        gets.append(_seconds(lambda: server.s3.get_object(Bucket=BUCKET, Key="64")["Body"].read()))
    for name, times in (("put", puts), ("get", gets)):
        rates = [LARGE / 1e6 / seconds for seconds in times[1:]]
        rate = statistics.median(rates)
        remark = f"{min(rates):.0f} to {max(rates):.0f}"
        report.values.append(ValueRow(f"64 MB {name}", rate, "MB/s", remark))
        report.checks.append(Check(f"S3: 64 MB {name}", tuple(rates), 150, "MB/s"))


def _small(report: Report, bench: Bench, server: Server) -> None:
    body = os.urandom(SMALL)
    rates: dict[str, list[float]] = {"put": [], "get": []}

    def put(key: str) -> None:
        server.s3.put_object(Bucket=BUCKET, Key=key, Body=body)

    def get(key: str) -> None:
        server.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    for _ in range(bench.plan.rounds):
        for name, call in (("put", put), ("get", get)):
            began = time.perf_counter()
            for number in range(SMALL_CALLS):
                call(f"small/{number}")
            rates[name].append(SMALL_CALLS / (time.perf_counter() - began))
    for name, values in rates.items():
        rate = statistics.median(values)
        remark = f"{min(values):.0f} to {max(values):.0f}"
        report.values.append(ValueRow(f"1 KB {name}", rate, "/s", remark))
        report.checks.append(Check(f"S3: 1 KB {name}", tuple(values), 400, "/s"))


def _beside_invocations(report: Report, bench: Bench, server: Server) -> None:
    server.deploy("echo", contenders.files_of("echo"), environment=contenders.ONE_WORKER)
    request = contenders.invocation(server, "echo", BODY, "application/json")
    file = bench.directory / "upload"
    megabyte = os.urandom(1_000_000)
    with file.open("wb") as output:
        for _ in range(bench.plan.upload_mb):
            output.write(megabyte)
    uvloop.run(_steady(request, None))  # warm up
    quiet, _ = uvloop.run(_steady(request, None))
    command = [sys.executable, "-c", UPLOAD, str(file), BUCKET]
    loaded, took = uvloop.run(_steady(request, lambda: _start(command, server)))
    size = f"{bench.plan.upload_mb / 1000:g} GB"
    report.values.append(
        ValueRow(
            f"upload of {size} beside {RATE} invocations/s", bench.plan.upload_mb / took, "MB/s"
        )
    )
    for name, steady in (("alone", quiet), (f"beside an upload of {size}", loaded)):
        calls = len(steady.latencies_ms)
        since_sent = percentile(steady.since_sent_ms, 0.99)
        remark = (
            f"p50 {percentile(steady.latencies_ms, 0.5):.2f} ms; {calls} calls, "
            f"{steady.errors} errors; p99 since really sent {since_sent:.2f} ms"
        )
        report.values.append(
            ValueRow(
                f"{RATE} invocations/s {name}, p99",
                percentile(steady.latencies_ms, 0.99),
                "ms",
                remark,
            )
        )
    p99 = percentile(loaded.latencies_ms, 0.99)
    report.checks.append(
        Check(f"{RATE} invocations/s beside an upload of {size}: p99", p99, 10, "ms", at_most=True)
    )
    report.notes.append(
        "Invocations are sent when they are due, at a constant rate, and their latency counts from "
        "that moment. It includes the client's own delays, for uploader, client and server share "
        "the cores; *since really sent* leaves these out."
    )


def _start(command: list[str], server: Server) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=server.environ())


async def _steady(
    request: Request, start: Callable[[], subprocess.Popen[bytes]] | None
) -> tuple[Steady, float]:
    """Invoke at a constant rate while an upload runs, or for a few seconds when there is none."""
    parts = urlsplit(request.url)
    assert parts.port is not None
    over = asyncio.Event()
    client = SteadyClient(http_bytes(request), RATE)
    running = asyncio.create_task(client.run("127.0.0.1", parts.port, CONNECTIONS, over))
    began = time.perf_counter()
    if start is None:
        await asyncio.sleep(QUIET_S)
    else:
        upload = start()
        status = await asyncio.to_thread(upload.wait, 300)
        assert status == 0, f"the upload ended with status {status}"
    took = time.perf_counter() - began
    over.set()
    return await running, took


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
