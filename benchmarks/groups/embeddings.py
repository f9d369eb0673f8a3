"""MiniLM sentence embeddings on one core: batching with a real model, on against off."""

import json

from benchmarks import contenders
from benchmarks.load import Request
from benchmarks.results import Bench, Check, Report, ratios

TEXT = "Every request of an endpoint carries a sentence, and wants its meaning as a vector."

ON = "Clary, batches of up to 32"
OFF = "Clary, one request a call"
CONNECTIONS = 32


def run(bench: Bench) -> Report:
    report = Report("MiniLM sentence embeddings, 1 worker, 1 thread")
    files = contenders.files_of("minilm")
    body = json.dumps({"inputs": TEXT}).encode()
    with contenders.clary(bench.directory / "clary") as server:
        requests: dict[str, Request] = {}
        for name, size in ((ON, "32"), (OFF, "1")):
            endpoint = f"minilm-{size}"
            server.create_endpoint(
                endpoint,
                files,
                environment={**contenders.ONE_WORKER, "MODEL_MAX_BATCH_SIZE": size},
            )
            # The first of them waits for its environment, PyTorch included.
            server.wait_for_status(endpoint, "InService", timeout_s=600)
            requests[name] = contenders.invocation(server, endpoint, body, "application/json")
        report.loads += bench.interleave(requests, (ON, CONNECTIONS), (OFF, CONNECTIONS))
    on, off = report.find(ON, CONNECTIONS), report.find(OFF, CONNECTIONS)
    p99s = tuple(
        mine.p99_ms / theirs.p99_ms for mine, theirs in zip(on.rounds, off.rounds, strict=True)
    )
    report.checks += [
        Check("MiniLM, 32 connections: batching on, of off", ratios(on, off), 1, "x"),
        Check("MiniLM, 32 connections: p99, of off", p99s, 1, "x", at_most=True),
    ]
    return report
