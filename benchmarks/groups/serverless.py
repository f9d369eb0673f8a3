"""Serverless endpoints: a cold start, and a warm call against a real-time endpoint."""

import json
import statistics
import time

from benchmarks import contenders
from benchmarks.groups.sklearn import train
from benchmarks.results import Bench, Check, Report, ValueRow
from server import Server
from serverless import deploy_serverless, wait_for_template, wait_for_workers

REAL_TIME = "real-time endpoint, 1 worker"
WARM = "serverless endpoint, warm"
CONNECTIONS = (1, 64)
STARTS = 9
IDLE_S = "1"
PAUSE_S = 1.0
"""Between the end of a worker and the next call, so that nothing of it is still going on."""


def run(bench: Bench) -> Report:
    report = Report("Serverless endpoints")
    row = train(bench.directory / "model")
    model = (bench.directory / "model" / "model.joblib").read_bytes()
    digits = {**contenders.files_of("digits"), "model.joblib": model}
    bodies = {
        "without libraries": b'{"x": 1}',
        "with scikit-learn": json.dumps({"instances": [row]}).encode(),
    }
    for templates in ("true", "false"):
        directory = bench.directory / f"cold-{templates}"
        settings = {
            "CLARY_SERVERLESS_IDLE_S": IDLE_S,
            "CLARY_SERVERLESS_TEMPLATES": templates,
        }
        with contenders.clary(directory, **settings) as server:
            for (what, body), files in zip(
                bodies.items(), (contenders.files_of("echo"), digits), strict=True
            ):
                name = what.split()[-1]
                deploy_serverless(server, name, files)
                if templates == "true":
                    wait_for_template(server, name)
                _cold_start(server, name, body)  # until now its libraries may be being imported
                times = [_cold_start(server, name, body) for _ in range(STARTS)]
                _report(report, what, times, is_forked=templates == "true")
                server.sagemaker.delete_endpoint(EndpointName=name)
    with contenders.clary(bench.directory / "warm") as server:
        server.deploy("real-time", contenders.files_of("echo"), environment=contenders.ONE_WORKER)
        deploy_serverless(server, "warm", contenders.files_of("echo"), MaxConcurrency=200)
        requests = {
            REAL_TIME: contenders.invocation(server, "real-time", b'{"x": 1}', "application/json"),
            WARM: contenders.invocation(server, "warm", b'{"x": 1}', "application/json"),
        }
        runs = [(name, count) for count in CONNECTIONS for name in requests]
        report.loads += bench.interleave(requests, *runs)
    for count in CONNECTIONS:
        ours, theirs = report.find(WARM, count), report.find(REAL_TIME, count)
        ratio = tuple(
            mine.p50_ms / other.p50_ms
            for mine, other in zip(ours.rounds, theirs.rounds, strict=True)
        )
        what = f"p50 of a warm serverless call, of a real-time one: {count} connections"
        report.checks.append(Check(what, ratio, 1.1, "x", at_most=True))
    return report


def _cold_start(server: Server, name: str, body: bytes) -> float:
    """Return the seconds that a call to an endpoint without a worker takes."""
    wait_for_workers(server, name, 0)
    time.sleep(PAUSE_S)
    began = time.perf_counter()
    server.invoke(name, body)
    return time.perf_counter() - began


def _report(report: Report, what: str, times: list[float], *, is_forked: bool) -> None:
    how = "forked" if is_forked else "new interpreter"
    median = statistics.median(times)
    remark = f"median of {len(times)}, the slowest {max(times):.2f} s; boto3"
    report.values.append(ValueRow(f"cold start {what}, {how}", median, "s", remark))
    if is_forked:
        limit_s = 0.5 if what == "without libraries" else 1.2
        report.checks.append(Check(f"cold start {what}", tuple(times), limit_s, "s", at_most=True))
