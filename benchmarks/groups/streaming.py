"""Response streams: parts per second over 16 streams, and how soon the first part is there."""

import contextlib
import json
import statistics

from benchmarks import HERE, MODELS, contenders
from benchmarks.latency import call_stream, percentile
from benchmarks.load import Request
from benchmarks.results import Bench, Check, Report, ValueRow, ratios

STREAMS = 16
PARTS = 200
"""Parts of one stream: many enough that the request itself counts little."""
CALLS = 1000
FIRST_PARTS = 3

ASYNC = "Clary, asynchronous generator, 1 worker"
SYNC = "Clary, generator, 1 worker"
BEHIND = "user's FastAPI server behind Clary"
FASTAPI = "FastAPI, StreamingResponse, asynchronous generator"
FASTAPI_SYNC = "FastAPI, StreamingResponse, generator"


def run(bench: Bench) -> Report:
    report = Report(f"Response streams of {PARTS} parts")
    directory = bench.directory
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        server = enter(contenders.clary(directory))
        server.deploy("tokens", contenders.files_of("tokens"), environment=contenders.ONE_WORKER)
        server.deploy(
            "server",
            {
                **contenders.files_of("tokens"),
                "code/fastapi_server.py": (HERE / "servers/fastapi_server.py").read_bytes(),
            },
            image="clary/server:latest",
            environment={
                "CLARY_APP": "fastapi_server:with_streams",
                "MODEL_DIR": "/opt/ml/model",
                **contenders.ONE_WORKER,
            },
        )
        url = enter(
            contenders.fastapi(directory, "with_streams", "tokens", MODELS / "tokens" / "code")
        )

        def requests(parts: int) -> dict[str, Request]:
            def to_clary(endpoint: str, style: str) -> Request:
                body = _wish(style, parts)
                return contenders.response_stream(server, endpoint, body, "application/json")

            return {
                ASYNC: to_clary("tokens", "async"),
                SYNC: to_clary("tokens", "sync"),
                BEHIND: to_clary("server", "async"),
                FASTAPI: Request(url, _wish("async", parts)),
                FASTAPI_SYNC: Request(url, _wish("sync", parts)),
            }

        long = requests(PARTS)
        report.loads += bench.interleave(long, *((name, STREAMS) for name in long))
        delays = {
            name: [percentile(call_stream(request, CALLS), 0.99) for _ in range(bench.plan.rounds)]
            for name, request in requests(FIRST_PARTS).items()
            if name != FASTAPI_SYNC
        }
    for row in report.loads:
        rate = row.load.requests_per_s * PARTS
        report.values.append(ValueRow(f"{row.contender}: parts", rate, "/s", f"{STREAMS} streams"))
    for name, values in delays.items():
        report.values.append(
            ValueRow(
                f"{name}: first part after it was made, p99",
                statistics.median(values),
                "ms",
                "1 stream, client in Python",
            )
        )
    _check(report, delays)
    return report


def _wish(style: str, parts: int) -> bytes:
    return json.dumps({"style": style, "parts": parts}).encode()


def _check(report: Report, delays: dict[str, list[float]]) -> None:
    fastapi = report.find(FASTAPI, STREAMS)
    for name, what in ((ASYNC, "asynchronous generator"), (SYNC, "generator")):
        report.checks += [
            Check(
                f"streaming: parts/s of FastAPI's StreamingResponse, {what}",
                ratios(report.find(name, STREAMS), fastapi),
                3,
                "x",
            ),
            Check(
                f"streaming: first part after the first yield, p99, {what}",
                tuple(delays[name]),
                2,
                "ms",
                at_most=True,
            ),
        ]
