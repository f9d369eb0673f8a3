"""JSON echo: what the way to a model costs, in requests per second and in latency."""

import contextlib
import statistics

from benchmarks import MODELS, contenders
from benchmarks.latency import call_over_http, call_worker, percentile
from benchmarks.load import Request
from benchmarks.results import Bench, Check, Report, ValueRow, best, ratio

BODY = b'{"data": "' + b"x" * 188 + b'"}'  # 200 bytes
CALLS = 5000

CLARY = "Clary, 1 worker"
SIGNED = "Clary, 1 worker, SigV4 verified"
DEFAULT = "Clary, default worker count"
ASYNC = "FastAPI, async def"
DEF = "FastAPI, def"
RAW = "FastAPI, async def, raw body"
UNIX = "nginx, bare server, Unix socket"
TCP = "nginx, bare server, TCP"


def run(bench: Bench) -> Report:
    report = Report("JSON echo, 200 bytes")
    directory = bench.directory
    code = MODELS / "echo" / "code"
    files = contenders.files_of("echo")
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        server = enter(contenders.clary(directory / "open"))
        guarded, key = enter(contenders.clary_with_keys(directory / "auth"))
        for each in (server, guarded):
            each.deploy("echo", files, environment=contenders.ONE_WORKER)
        server.deploy("default", files)
        urls = {
            ASYNC: enter(contenders.fastapi(directory, "with_async_def", "echo", code)),
            DEF: enter(contenders.fastapi(directory, "with_def", "echo", code)),
            RAW: enter(contenders.fastapi(directory, "with_raw_body", "echo", code)),
        }
        for name, scheme in ((UNIX, "unix"), (TCP, "tcp")):
            upstream = enter(contenders.bare_server(directory, scheme, "echo", code))
            urls[name], _ = enter(contenders.nginx(directory / f"nginx-{scheme}", upstream))

        plain = contenders.invocation(server, "echo", BODY, "application/json")
        to_guarded = contenders.invocation(guarded, "echo", BODY, "application/json")
        default = contenders.invocation(server, "default", BODY, "application/json")
        requests = {
            CLARY: lambda: plain,
            SIGNED: lambda: contenders.signed(to_guarded, key),
            DEFAULT: lambda: default,
            **{name: (lambda url=url: Request(url, BODY)) for name, url in urls.items()},
        }
        report.loads += bench.interleave(requests, 64)
        few = {name: requests[name] for name in (CLARY, SIGNED, ASYNC, UNIX)}
        report.loads += bench.interleave(few, 1)
        report.loads += bench.interleave(few, 512)

        socket = contenders.worker_socket(server, "echo")
        through, direct = [], []
        for _ in range(bench.plan.rounds):
            through.append(percentile(call_over_http(plain, CALLS), 0.5))
            direct.append(percentile(call_worker(socket, BODY, CALLS), 0.5))
    p50_through, p50_direct = statistics.median(through), statistics.median(direct)
    report.values += [
        ValueRow("one call, through the gateway, p50", p50_through, "ms", "client in Python"),
        ValueRow("one call, worker's own socket, p50", p50_direct, "ms", "client in Python"),
    ]
    _check(report, p50_through - p50_direct)
    return report


def _check(report: Report, added_ms: float) -> None:
    clary = report.find(CLARY)
    proxied = best([report.find(UNIX), report.find(TCP)])
    fastest = best([clary, report.find(DEFAULT)])
    report.checks += [
        Check("echo: FastAPI `async def`", ratio(clary, report.find(ASYNC)), 3.5, "x"),
        Check("echo: FastAPI `def`", ratio(clary, report.find(DEF)), 7, "x"),
        Check("echo: nginx before a bare server, the better", ratio(clary, proxied), 0.6, "x"),
        Check("echo: SigV4 verified, of without", ratio(report.find(SIGNED), clary), 0.6, "x"),
        Check(
            "echo: default worker count, of the better of it and 1 worker",
            ratio(report.find(DEFAULT), fastest),
            0.9,
            "x",
        ),
        Check("1 connection: added latency, p50", added_ms, 0.1, "ms", at_most=True),
        Check("1 connection: whole latency, p50", report.find(CLARY, 1).p50_ms, 0.2, "ms", True),
        Check("64 connections: p99", clary.p99_ms, 4, "ms", at_most=True),
        Check(
            "64 connections: p99, of FastAPI's `async def`",
            clary.p99_ms / report.find(ASYNC).p99_ms,
            1,
            "x",
            at_most=True,
        ),
        Check("512 connections, of 64", ratio(report.find(CLARY, 512), clary), 0.8, "x"),
    ]
