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

STYLES = {
    "asynchronous": "asynchronous generator",
    "generator": "generator",
    "unwaiting": "asynchronous generator that never waits",
}
"""The generators of ``models/tokens``."""

CLARY = "Clary, 1 worker"
BEHIND = "user's FastAPI server behind Clary"
FASTAPI = "FastAPI, StreamingResponse"


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
            made = {}
            for style, what in STYLES.items():
                wish = json.dumps({"style": style, "parts": parts}).encode()
                for contender, endpoint in ((CLARY, "tokens"), (BEHIND, "server")):
                    made[f"{contender}: {what}"] = contenders.response_stream(
                        server, endpoint, wish, "application/json"
                    )
                made[f"{FASTAPI}: {what}"] = Request(url, wish)
            return made

        long = requests(PARTS)
        report.loads += bench.interleave(long, *((name, STREAMS) for name in long))
        short = requests(FIRST_PARTS)
        delays = {
            style: tuple(
                percentile(call_stream(short[f"{CLARY}: {what}"], CALLS), 0.99)
                for _ in range(bench.plan.rounds)
            )
            for style, what in STYLES.items()
        }
    for row in report.loads:
        rate = row.load.requests_per_s * PARTS
        report.values.append(ValueRow(f"{row.contender}: parts", rate, "/s", f"{STREAMS} streams"))
    for style, what in STYLES.items():
        first_ms = statistics.median(delays[style])
        remark = "p99 of one stream after the other, client in Python"
        report.values.append(
            ValueRow(f"{CLARY}: {what}: first part, after it was made", first_ms, "ms", remark)
        )
    _check(report, delays)
    return report


def _check(report: Report, delays: dict[str, tuple[float, ...]]) -> None:
    for style, what in STYLES.items():
        ours = report.find(f"{CLARY}: {what}", STREAMS)
        theirs = report.find(f"{FASTAPI}: {what}", STREAMS)
        report.checks += [
            Check(f"parts/s, of FastAPI's StreamingResponse: {what}", ratios(ours, theirs), 3, "x"),
            Check(f"first part, after the first yield, p99: {what}", delays[style], 2, "ms", True),
        ]
