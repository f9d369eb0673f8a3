"""Trace contexts reach containers; with a collector, invocations leave spans."""

import http.client
import json
import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from async_endpoints import deploy_async, put_input
from collector import Collector, values
from handlers import ECHO
from scraping import scrape
from server import Server, free_port, wait_for

TELLS = {
    "code/inference.py": """
import json

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept, context):
    if "fail" in str(data):
        raise ValueError("no")
    names = ("traceparent", "tracestate", "x-amzn-sagemaker-custom-attributes")
    return json.dumps({n: context.get_request_header(0, n) for n in names}), "application/json"
"""
}
SERVER = """
import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(b"{}")

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(json.dumps({n.lower(): v for n, v in self.headers.items()}).encode())

    def answer(self, body):
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""


def context(*, sampled: bool = True) -> tuple[str, str, str]:
    """A new trace: its id, the client's span id, and the header."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    return trace_id, span_id, f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"


def call(
    server: Server, endpoint: str, body: bytes = b"{}", path: str = "invocations", **headers: str
) -> tuple[int, Any]:
    """Invoke without boto3, which has no place for such headers."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        named = {"Content-Type": "application/json", **headers}
        connection.request("POST", f"/endpoints/{endpoint}/{path}", body, named)
        reply = connection.getresponse()
        text = reply.read()
        try:
            return reply.status, json.loads(text)
        except ValueError:
            return reply.status, text
    finally:
        connection.close()


# Without a collector ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("carried")
    (directory / "clary.toml").write_text(
        '[[runners]]\nmatch = "my/server"\nrunner = "command"\ncommand = ["python", "serve.py"]\n'
    )
    with Server(directory, CLARY_CONFIG=str(directory / "clary.toml")) as server:
        server.deploy("told", TELLS)
        yield server


def test_the_clients_context_reaches_the_handler(plain: Server) -> None:
    _, _, parent = context()
    for _ in range(2):  # the second time with what was remembered of the first
        status, told = call(plain, "told", traceparent=parent, tracestate='a=1,b="2\\"')
        assert status == 200
        assert told["traceparent"] == parent
        assert told["tracestate"] == 'a=1,b="2\\"'
    assert call(plain, "told")[1]["traceparent"] is None
    status, told = call(
        plain,
        "told",
        traceparent=parent,
        **{"X-Amzn-SageMaker-Custom-Attributes": "mine"},
    )
    assert told["traceparent"] == parent
    assert told["x-amzn-sagemaker-custom-attributes"] == "mine"


@pytest.mark.parametrize(
    "parent",
    ["", "nonsense", "00-0-0-01", f"ff-{'a' * 32}-{'b' * 16}-01", f"00-{'0' * 32}-{'b' * 16}-01"],
)
def test_what_is_no_context_is_left_out(plain: Server, parent: str) -> None:
    status, told = call(plain, "told", traceparent=parent, tracestate="a=1")
    assert status == 200
    assert told["traceparent"] is None
    assert told["tracestate"] is None


def test_it_reaches_servers_of_users_own(plain: Server) -> None:
    plain.deploy("served", {"code/serve.py": SERVER}, image="my/server")
    _, _, parent = context()
    status, told = call(plain, "served", traceparent=parent, tracestate="a=1")
    assert (status, told["traceparent"], told["tracestate"]) == (200, parent, "a=1")
    plain.delete_endpoint("served")


def test_it_reaches_every_container_of_a_pipeline(plain: Server) -> None:
    passes_on = ECHO.replace("return data, content_type", "return data, 'application/json'")
    for name, files in (("first", {"code/inference.py": passes_on}), ("last", TELLS)):
        plain.upload(files, name)
    plain.sagemaker.create_model(
        ModelName="chain",
        ExecutionRoleArn="arn:aws:iam::123456789012:role/tests",
        Containers=[
            {"Image": "clary/python:latest", "ModelDataUrl": f"s3://models/{n}/model.tar.gz"}
            for n in ("first", "last")
        ],
    )
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": "chain",
        "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.large",
    }
    plain.sagemaker.create_endpoint_config(EndpointConfigName="chain", ProductionVariants=[variant])
    plain.sagemaker.create_endpoint(EndpointName="chain", EndpointConfigName="chain")
    plain.wait_for_status("chain", "InService")
    _, _, parent = context()
    status, told = call(plain, "chain", traceparent=parent)
    assert (status, told["traceparent"]) == (200, parent)
    plain.delete_endpoint("chain")


def test_it_reaches_the_container_of_an_asynchronous_call(plain: Server) -> None:
    for bucket in ("inputs", "results"):
        plain.s3.create_bucket(Bucket=bucket)
    deploy_async(plain, "later", TELLS["code/inference.py"])
    location = put_input(plain, "one", b"{}")
    _, _, parent = context()
    connection = http.client.HTTPConnection("127.0.0.1", plain.port, timeout=30)
    connection.request(
        "POST",
        "/endpoints/later/async-invocations",
        headers={"X-Amzn-SageMaker-InputLocation": location, "traceparent": parent},
    )
    reply = connection.getresponse()
    reply.read()
    output = reply.headers["x-amzn-sagemaker-outputlocation"]
    connection.close()
    told = json.loads(wait_for(lambda: read_body(plain, output), timeout_s=30, what="its output"))
    assert told["traceparent"] == parent
    plain.sagemaker.delete_endpoint(EndpointName="later")


def read_body(server: Server, location: str) -> bytes | None:
    bucket, _, key = location.removeprefix("s3://").partition("/")
    try:
        return bytes(server.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    except server.s3.exceptions.NoSuchKey:
        return None


# With one --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Server]:
    with Server(
        tmp_path_factory.mktemp("traces"),
        CLARY_OTEL_ENDPOINT=collector.url,
        CLARY_OTEL_HEADERS='{"x-token": "secret"}',
        CLARY_OTEL_METRIC_INTERVAL_S="1",
    ) as server:
        server.deploy("told", TELLS)
        yield server


def spans(collector: Collector, trace_id: str, count: int) -> dict[str, Any]:
    """The spans of a trace by name, once they are there."""
    wait_for(
        lambda: len(collector.of_trace(trace_id)) >= count,
        timeout_s=30,
        what=f"{count} spans of {trace_id}",
    )
    found = collector.of_trace(trace_id)
    assert len(found) == count
    return {span.name: span for span in found}


def test_an_invocation_leaves_two_spans_and_is_the_containers_parent(
    server: Server, collector: Collector
) -> None:
    began = time.time_ns()
    trace_id, span_id, parent = context()
    status, told = call(server, "told", traceparent=parent, tracestate="a=1")
    assert status == 200
    found = spans(collector, trace_id, 2)
    own, model = found["InvokeEndpoint"], found["call model"]
    assert own.parent_span_id.hex() == span_id
    assert model.parent_span_id == own.span_id
    assert told["traceparent"] == f"00-{trace_id}-{model.span_id.hex()}-01"
    assert told["tracestate"] == own.trace_state == "a=1"
    assert began - 10**9 <= own.start_time_unix_nano <= model.start_time_unix_nano
    assert model.start_time_unix_nano <= model.end_time_unix_nano <= time.time_ns() + 10**9
    assert values(model.attributes) == {
        "clary.endpoint": "told",
        "clary.variant": "AllTraffic",
        "clary.container": "primary",
        "http.response.status_code": 200,
    }
    assert own.kind == own.SPAN_KIND_SERVER
    assert own.status.code == own.status.STATUS_CODE_UNSET
    assert {"service.name": "clary"}.items() <= collector.resources[-1].items()
    assert all(headers["x-token"] == "secret" for headers in collector.headers)


def test_the_clients_decision_counts(server: Server, collector: Collector) -> None:
    trace_id, _, parent = context(sampled=False)
    _, told = call(server, "told", traceparent=parent)
    assert told["traceparent"] == parent
    after, _, sampled = context()
    call(server, "told", traceparent=sampled)
    spans(collector, after, 2)
    assert not collector.of_trace(trace_id)


def test_a_call_without_a_context_begins_a_trace(server: Server, collector: Collector) -> None:
    _, told = call(server, "told")
    _, trace_id, _, flags = told["traceparent"].split("-")
    assert flags == "01"
    assert spans(collector, trace_id, 2)["InvokeEndpoint"].parent_span_id == b""


def test_errors_are_told(server: Server, collector: Collector) -> None:
    trace_id, _, parent = context()
    assert call(server, "told", b"fail", traceparent=parent)[0] == 424
    found = spans(collector, trace_id, 2)
    own = found["InvokeEndpoint"]
    assert own.status.code == own.status.STATUS_CODE_ERROR
    assert values(own.attributes)["http.response.status_code"] == 500
    trace_id, _, parent = context()
    assert call(server, "missing", traceparent=parent)[0] == 400
    (span,) = spans(collector, trace_id, 1).values()
    assert span.status.code == span.status.STATUS_CODE_ERROR
    assert values(span.attributes)["clary.endpoint"] == "missing"


def test_streams_leave_spans(server: Server, collector: Collector) -> None:
    trace_id, _, parent = context()
    status, _ = call(server, "told", path="invocations-response-stream", traceparent=parent)
    assert status == 200
    assert set(spans(collector, trace_id, 2)) == {
        "InvokeEndpointWithResponseStream",
        "call model",
    }


def test_spans_do_not_need_control(server: Server, collector: Collector) -> None:
    (control,) = server.pids("clary-control")
    os.kill(control, signal.SIGSTOP)
    try:
        trace_id, _, parent = context()
        assert call(server, "told", traceparent=parent)[0] == 200
        spans(collector, trace_id, 2)
    finally:
        os.kill(control, signal.SIGKILL)
    trace_id, _, parent = context()
    assert call(server, "told", traceparent=parent)[0] == 200
    spans(collector, trace_id, 2)
    wait_for(
        lambda: server.pids("clary-control") not in ([], [control]),
        timeout_s=20,
        what="control to be back",
    )
    server.wait_for_status("told", "InService")


def test_the_collector_gets_what_prometheus_reads(server: Server, collector: Collector) -> None:
    for _ in range(3):
        call(server, "told")
    wait_for(
        lambda: (scrape(server).value("clary_invocations_total", endpoint="told") or 0) >= 3,
        timeout_s=30,
        what="three calls to be counted",
    )

    def is_same() -> bool:
        found = collector.metrics.get("clary_invocations")
        seen = scrape(server).value("clary_invocations_total", endpoint="told")
        return found is not None and found.sum.data_points[0].as_double == seen

    wait_for(is_same, timeout_s=30, what="the collector to hear of it")
    point = collector.metrics["clary_invocations"].sum.data_points[0]
    assert values(point.attributes) == {"endpoint": "told", "variant": "AllTraffic"}
    assert collector.metrics["clary_invocations"].sum.is_monotonic
    latency = collector.metrics["clary_model_latency"]
    assert latency.unit == "s"
    (times,) = latency.histogram.data_points
    assert times.count >= 3
    assert sum(times.bucket_counts) == times.count
    assert "clary_process_resident_memory" in collector.metrics


def test_a_collector_that_is_away_costs_spans_and_no_call(tmp_path: Path) -> None:
    port = free_port()
    with Server(
        tmp_path,
        CLARY_OTEL_ENDPOINT=f"http://127.0.0.1:{port}",
        CLARY_OTEL_MAX_SPANS="20",
        CLARY_OTEL_TIMEOUT_S="1",
        CLARY_OTEL_METRICS="false",
    ) as server:
        server.deploy("told", TELLS)

        def dropped() -> float:
            assert call(server, "told")[0] == 200
            return scrape(server).value("clary_spans_dropped_total") or 0

        wait_for(lambda: dropped() > 0, timeout_s=60, what="spans to be dropped")
        with Collector(port) as collector:

            def arrives() -> bool:
                assert call(server, "told")[0] == 200
                return len(collector.spans) > 0

            wait_for(arrives, timeout_s=60, what="spans to arrive")
            wait_for(
                lambda: (scrape(server).value("clary_spans_exported_total") or 0) > 0,
                timeout_s=30,
                what="them to be counted",
            )
