"""Data capture at 20 %, alone and beside a shadow variant: what it costs the clients."""

from typing import Any

from benchmarks import contenders
from benchmarks.latency import call_over_http, percentile
from benchmarks.load import Request
from benchmarks.processes import PINNED, pinned
from benchmarks.results import Bench, Check, Report, ValueRow
from server import Server
from variants import a_variant_of

CALLS = 8000
SHARE = 20
BODY = b'{"data": "' + b"x" * 188 + b'"}'  # 200 bytes
CODE = """
import time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    {body}
"""
HANDLERS = {
    # A worker that computes keeps a core; one that waits (for a GPU, for another service) does not.
    "echo": "return data, accept or content_type",
    "2 ms of waiting": "time.sleep(0.002); return data, accept or content_type",
}


def run(bench: Bench) -> Report:
    report = Report(f"Data capture at {SHARE} %, one connection", notes=[PINNED])
    with contenders.clary(bench.directory) as server:
        server.s3.create_bucket(Bucket="captured")
        for number, (handler, body) in enumerate(HANDLERS.items()):
            code = CODE.format(body=body)
            variant = a_variant_of(server, f"production-{number}", code)
            shadow = a_variant_of(server, f"shadow-{number}", code)
            off, on, both = f"off-{number}", f"captured-{number}", f"both-{number}"
            _deploy(server, off, [variant])
            _deploy(server, on, [variant], captures=True)
            _deploy(server, both, [variant], [shadow], captures=True)
            calls = CALLS // (1 if handler == "echo" else 8)
            p50: dict[str, list[float]] = {off: [], on: [], both: []}
            with pinned(server, "shadow-"):
                for _ in range(bench.plan.rounds):
                    for name, values in p50.items():
                        latencies = call_over_http(_request(server, name), calls)
                        values.append(percentile(latencies, 0.5))
            report.values += [
                ValueRow(f"{handler}: p50 without", min(p50[off]), "ms", "best round"),
                ValueRow(f"{handler}: p50 with capture", min(p50[on]), "ms", "best round"),
                ValueRow(f"{handler}: p50 with shadow, too", min(p50[both]), "ms", "best round"),
            ]
            for what, name in (("capture", on), ("shadow and capture", both)):
                ratios = tuple(b / a for a, b in zip(p50[off], p50[name], strict=True))
                report.checks.append(
                    Check(f"{what}: p50 of {handler}, of without", ratios, 1.1, "x", at_most=True)
                )
    return report


def _deploy(
    server: Server,
    name: str,
    variants: list[dict[str, Any]],
    shadows: list[dict[str, Any]] | None = None,
    *,
    captures: bool = False,
) -> None:
    config: dict[str, Any] = {"EndpointConfigName": name, "ProductionVariants": variants}
    if shadows:
        config["ShadowProductionVariants"] = shadows
    if captures:
        config["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": SHARE,
            "DestinationS3Uri": "s3://captured/bench",
            "CaptureOptions": [{"CaptureMode": "InputAndOutput"}],
        }
    server.sagemaker.create_endpoint_config(**config)
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    server.wait_for_status(name, "InService")


def _request(server: Server, endpoint: str) -> Request:
    return contenders.invocation(server, endpoint, BODY, "application/json")
