"""A call of 5 ms that may be for many: what batches of up to 32 make of it."""

from benchmarks import contenders
from benchmarks.load import Request
from benchmarks.results import Bench, Check, Report, ratios

BODY = b"[[0.1, 0.2, 0.3, 0.4]]"

ON = "Clary, batches of up to 32"
DRAINED = "Clary, batches of up to 32, never waiting for company"
OFF = "Clary, one request a call"

SIZE = {"MODEL_MAX_BATCH_SIZE": "32"}


def run(bench: Bench) -> Report:
    report = Report("A call of 5 ms for any number of rows, 1 worker")
    files = contenders.files_of("slow")
    variables = {
        ON: SIZE,
        DRAINED: {**SIZE, "MODEL_MAX_BATCH_DELAY_MS": "0"},
        OFF: {},
    }
    with contenders.clary(bench.directory / "clary") as server:
        requests: dict[str, Request] = {}
        for number, (name, environment) in enumerate(variables.items()):
            endpoint = f"slow-{number}"
            server.deploy(endpoint, files, environment={**contenders.ONE_WORKER, **environment})
            requests[name] = contenders.invocation(server, endpoint, BODY, "application/json")
        runs = [(name, connections) for connections in (64, 16, 1) for name in (ON, OFF)]
        report.loads += bench.interleave(requests, *runs, (DRAINED, 16))
    for connections, target in ((64, 25), (16, 12), (1, 0.98)):
        gained = ratios(report.find(ON, connections), report.find(OFF, connections))
        what = f"batching, {connections} connection{'s' * (connections > 1)}: of one request a call"
        report.checks.append(Check(what, gained, target, "x"))
    drained = ratios(report.find(DRAINED, 16), report.find(OFF, 16))
    report.checks.append(
        Check("batching, 16 connections, never waiting: of one request a call", drained, 8, "x")
    )
    return report
