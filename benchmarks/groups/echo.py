"""JSON echo: what the way to a model costs, in requests per second and in latency."""

import contextlib
import statistics
from collections.abc import Callable
from functools import partial

from benchmarks import MODELS, contenders
from benchmarks.latency import call_over_http, call_worker, percentile
from benchmarks.load import Request
from benchmarks.results import Bench, Check, Report, ValueRow, best, ratios

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
        requests: dict[str, Request | Callable[[], Request]] = {
            CLARY: plain,
            SIGNED: partial(contenders.signed, to_guarded, key),
            DEFAULT: default,
            **{name: Request(url, BODY) for name, url in urls.items()},
        }
        report.loads += bench.interleave(
            requests,
            *((name, 64) for name in requests),
            *((name, count) for count in (1, 512) for name in (CLARY, SIGNED, ASYNC, UNIX)),
        )

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
    report.notes.append(
        "All contenders run the same functions (`models/echo`) in one process. FastAPI declares "
        "the body as a parameter and returns an object, as its tutorial does; *raw body* is the "
        "least that it can do. nginx has one worker process and keeps connections to the server "
        "behind it (`servers/bare.py`), httptools on uvloop without any checks."
    )
    added = tuple(one - other for one, other in zip(through, direct, strict=True))
    _check(report, added)
    return report


def _check(report: Report, added_ms: tuple[float, ...]) -> None:
    clary = report.find(CLARY)
    frameworks = report.find(ASYNC)
    default = report.find(DEFAULT)
    proxied = best([report.find(UNIX), report.find(TCP)])
    p99 = tuple(load.p99_ms for load in clary.rounds)
    p99_ratios = tuple(
        mine.p99_ms / theirs.p99_ms
        for mine, theirs in zip(clary.rounds, frameworks.rounds, strict=True)
    )
    p50_alone = tuple(load.p50_ms for load in report.find(CLARY, 1).rounds)
    report.checks += [
        Check("echo, of FastAPI `async def`", ratios(clary, frameworks), 3.5, "x"),
        Check("echo, of FastAPI `def`", ratios(clary, report.find(DEF)), 7, "x"),
        Check("echo, of nginx before a bare server", ratios(clary, proxied), 0.6, "x"),
        Check("echo, SigV4 verified, of without", ratios(report.find(SIGNED), clary), 0.6, "x"),
        Check("echo, default worker count, of 1 worker", ratios(default, clary), 0.9, "x"),
        Check("1 connection: added latency, p50", added_ms, 0.1, "ms", at_most=True),
        Check("1 connection: whole latency, p50", p50_alone, 0.2, "ms", at_most=True),
        Check("64 connections: p99", p99, 4, "ms", at_most=True),
        Check("64 connections: p99, of FastAPI's `async def`", p99_ratios, 1, "x", at_most=True),
        Check("512 connections, of 64", ratios(report.find(CLARY, 512), clary), 0.8, "x"),
    ]
