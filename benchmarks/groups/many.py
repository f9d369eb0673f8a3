"""Two hundred endpoints at once."""

import statistics
import time

from benchmarks import contenders
from benchmarks.groups.start import memory
from benchmarks.latency import percentile
from benchmarks.results import Bench, Report, ValueRow
from server import Server

TIMEOUT_S = 300


def run(bench: Bench) -> Report:
    count = bench.plan.endpoints
    report = Report(f"{count} endpoints")
    names = [f"endpoint-{number:03}" for number in range(count)]
    with contenders.clary(bench.directory) as server:
        url = server.upload(contenders.files_of("echo"))
        began = time.perf_counter()
        for name in names:
            server.create_endpoint(name, model_data_url=url, environment=contenders.ONE_WORKER)
        created = time.perf_counter() - began
        deadline = time.monotonic() + TIMEOUT_S
        while _in_service(server) < count:
            assert time.monotonic() < deadline, f"{_in_service(server)} of {count} are InService"
            time.sleep(0.2)
        in_service = time.perf_counter() - began
        describe, invoke = [], []
        for name in names:
            begin = time.perf_counter()
            server.sagemaker.describe_endpoint(EndpointName=name)
            middle = time.perf_counter()
            server.invoke(name)
            describe.append((middle - begin) * 1e3)
            invoke.append((time.perf_counter() - middle) * 1e3)
        begin = time.perf_counter()
        listed = _list(server)
        took = time.perf_counter() - begin
        assert sorted(listed) == names, f"{len(listed)} listed"
        table = memory(server)
        begin = time.perf_counter()
        server.stop()
        stopped = time.perf_counter() - begin
    report.values += [
        ValueRow(f"{count} times CreateModel, CreateEndpointConfig, CreateEndpoint", created, "s"),
        ValueRow("from the first call to the last InService", in_service, "s"),
        ValueRow("list all, pages of 100", took * 1e3, "ms"),
        ValueRow("describe, median", statistics.median(describe), "ms", _p99(describe)),
        ValueRow("invoke by boto3, median", statistics.median(invoke), "ms", _p99(invoke)),
        ValueRow("stop the server", stopped, "s"),
    ]
    report.notes.append("Each endpoint has one instance with one worker, and shares its archive.")
    for role, (resident, proportional) in table.items():
        report.values.append(
            ValueRow(
                f"{role} (all of them), proportional",
                proportional,
                "MB",
                f"{resident:.0f} MB resident, shared pages counted in each process",
            )
        )
    return report


def _list(server: Server) -> list[str]:
    pages = server.sagemaker.get_paginator("list_endpoints").paginate(MaxResults=100)
    return [endpoint["EndpointName"] for page in pages for endpoint in page["Endpoints"]]


def _in_service(server: Server) -> int:
    pages = server.sagemaker.get_paginator("list_endpoints").paginate(
        MaxResults=100, StatusEquals="InService"
    )
    return sum(len(page["Endpoints"]) for page in pages)


def _p99(values: list[float]) -> str:
    return f"p99 {percentile(values, 0.99):.1f}"
