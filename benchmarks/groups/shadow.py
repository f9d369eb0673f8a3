"""A shadow variant at 100 %: what the copies cost the clients of production."""

from benchmarks import contenders
from benchmarks.latency import call_over_http, percentile
from benchmarks.load import Request
from benchmarks.processes import PINNED, pinned
from benchmarks.results import Bench, Check, Report, ValueRow
from server import Server
from variants import a_variant_of, deploy_variants

CALLS = 8000
BODY = b'{"data": "' + b"x" * 188 + b'"}'  # 200 bytes
HANDLERS = {
    # A worker that computes keeps a core; one that waits (for a GPU, for another service) does not.
    "echo": "return data, accept or content_type",
    "2 ms of waiting": "time.sleep(0.002); return data, accept or content_type",
}
CODE = """
import time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    {body}
"""


def run(bench: Bench) -> Report:
    report = Report("Shadow variant at 100 %, one connection", notes=[PINNED])
    with contenders.clary(bench.directory) as server:
        for number, (handler, body) in enumerate(HANDLERS.items()):
            code = CODE.format(body=body)
            off, on = f"off-{number}", f"on-{number}"
            production = a_variant_of(server, f"production-{number}", code)
            shadow = a_variant_of(server, f"shadow-{number}", code)
            deploy_variants(server, off, [production])
            deploy_variants(server, on, [production], [shadow])
            calls = CALLS // (1 if handler == "echo" else 8)
            p50: dict[str, list[float]] = {off: [], on: []}
            with pinned(server, "shadow-"):
                for _ in range(bench.plan.rounds):
                    for name, values in p50.items():
                        latencies = call_over_http(_request(server, name), calls)
                        values.append(percentile(latencies, 0.5))
            ratios = tuple(b / a for a, b in zip(p50[off], p50[on], strict=True))
            report.values += [
                ValueRow(f"{handler}: p50 without a shadow", min(p50[off]), "ms", "best round"),
                ValueRow(f"{handler}: p50 with one", min(p50[on]), "ms", "best round"),
            ]
            report.checks.append(
                Check(f"shadow: p50 of {handler}, of without", ratios, 1.1, "x", at_most=True)
            )
    return report


def _request(server: Server, endpoint: str) -> Request:
    return contenders.invocation(server, endpoint, BODY, "application/json")
