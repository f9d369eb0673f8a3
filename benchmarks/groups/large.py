"""Bodies of 5 MB in and out, and whether the gateway's memory stays flat meanwhile."""

import contextlib
import threading
import time

from benchmarks import MODELS, contenders
from benchmarks.load import Request, run_wrk
from benchmarks.processes import resident_mb
from benchmarks.results import Bench, Check, Report, ValueRow, best, ratios

BODY = bytes(5_000_000)
TYPE = "application/octet-stream"
CONNECTIONS = 16
SAMPLE_S = 0.05

CLARY = "Clary, 1 worker"
NGINX = {
    "nginx, as it comes": "",
    "nginx, unbuffered": "proxy_request_buffering off; proxy_buffering off;",
    "nginx, buffers in memory": (
        "client_body_buffer_size 8m; proxy_buffer_size 64k; proxy_buffers 96 64k;"
        " proxy_busy_buffers_size 128k; proxy_max_temp_file_size 0;"
    ),
}


def run(bench: Bench) -> Report:
    report = Report("5 MB in and 5 MB out, 16 in flight")
    directory = bench.directory
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        server = enter(contenders.clary(directory / "clary"))
        files = contenders.files_of("echo")
        server.deploy("large", files, environment=contenders.ONE_WORKER)
        request = contenders.invocation(server, "large", BODY, TYPE)
        upstream = enter(
            contenders.bare_server(directory, "unix", "echo", MODELS / "echo" / "code")
        )
        requests = {CLARY: request}
        for number, (name, options) in enumerate(NGINX.items()):
            url, _ = enter(contenders.nginx(directory / f"nginx-{number}", upstream, options))
            requests[name] = Request(url, BODY, {"content-type": TYPE})
        (gateway,) = server.pids("clary-gateway")
        before = resident_mb(gateway)
        report.loads += bench.interleave(
            requests,
            *((name, CONNECTIONS) for name in requests),
            seconds=max(2, bench.plan.seconds),
        )
        memory = _watch(gateway, request, 3 if bench.plan.is_quick else 8)
    third = len(memory) // 3
    early, late = max(memory[:third]), max(memory[-third:])
    report.values += [
        ValueRow("gateway before the first large body", before, "MB"),
        ValueRow("gateway with 16 in flight, first third, peak", early, "MB"),
        ValueRow("gateway with 16 in flight, last third, peak", late, "MB"),
    ]
    report.notes.append(
        "nginx stands before `servers/bare.py`, and is compared in the best of its configurations. "
        "The first samples of the gateway's memory come after all rounds of the comparison."
    )
    nginx = best([report.find(name, CONNECTIONS) for name in NGINX])
    report.checks += [
        Check(
            "5 MB, of nginx at its best", ratios(report.find(CLARY, CONNECTIONS), nginx), 0.8, "x"
        ),
        Check(
            "5 MB, gateway's memory at the end, of at the beginning", late / early, 1.1, "x", True
        ),
    ]
    return report


def _watch(gateway: int, request: Request, seconds: int) -> list[float]:
    """Return samples of the gateway's memory under load."""
    samples: list[float] = []
    load = threading.Thread(
        target=run_wrk, args=(request,), kwargs={"connections": CONNECTIONS, "seconds": seconds}
    )
    load.start()
    while load.is_alive():
        samples.append(resident_mb(gateway))
        time.sleep(SAMPLE_S)
    load.join()
    return samples
