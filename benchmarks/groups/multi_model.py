"""Multi-model endpoints: a loaded model against an endpoint of its own, and the first call."""

import os
import statistics
import time
from dataclasses import replace

from benchmarks import contenders
from benchmarks.load import Request
from benchmarks.results import Bench, Check, Report, ValueRow
from multi_models import MultiModelEndpoint

SINGLE = "endpoint of one model, 1 worker"
CACHED = "model of a multi-model endpoint, loaded"
CONNECTIONS = (1, 64)
FIRST_CALLS = 15
MODEL_BYTES = 1_000_000
PAUSE_S = 0.5
"""Between two first calls: the next interpreter warms up."""


def run(bench: Bench) -> Report:
    report = Report("Multi-model endpoints")
    files = contenders.files_of("echo")
    with contenders.clary(bench.directory) as server:
        server.deploy("single", files, environment=contenders.ONE_WORKER)
        endpoint = MultiModelEndpoint(server, "many").create()
        target = endpoint.put("echo.tar.gz", files)
        single = contenders.invocation(server, "single", b'{"x": 1}', "application/json")
        cached = contenders.invocation(server, "many", b'{"x": 1}', "application/json")
        headers = {**cached.headers, "X-Amzn-SageMaker-Target-Model": target}
        requests: dict[str, Request] = {SINGLE: single, CACHED: replace(cached, headers=headers)}
        runs = [(name, count) for count in CONNECTIONS for name in requests]
        report.loads += bench.interleave(requests, *runs)
        firsts = []
        for number in range(FIRST_CALLS):
            # Random bytes, for a model's weights do not pack either.
            name = endpoint.put(f"m{number}.tar.gz", {**files, "weights": os.urandom(MODEL_BYTES)})
            time.sleep(PAUSE_S)
            began = time.perf_counter()
            server.invoke("many", b'{"x": 1}', TargetModel=name)
            firsts.append((time.perf_counter() - began) * 1e3)
    first_ms = statistics.median(firsts)
    remark = f"median of {FIRST_CALLS}, the slowest {max(firsts):.0f} ms; boto3"
    report.values.append(ValueRow("first call of a 1 MB model", first_ms, "ms", remark))
    report.checks.append(Check("first call of a 1 MB model", first_ms, 150, "ms", True))
    for count in CONNECTIONS:
        ours, theirs = report.find(CACHED, count), report.find(SINGLE, count)
        ratio = tuple(
            mine.p50_ms / other.p50_ms
            for mine, other in zip(ours.rounds, theirs.rounds, strict=True)
        )
        what = f"p50 of a loaded model, of a single model's: {count} connections"
        report.checks.append(Check(what, ratio, 1.1, "x", True))
    return report
