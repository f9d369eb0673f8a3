"""``GET /metrics`` of a running server, over all its processes."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from handlers import ECHO
from load import Load
from scraping import OPEN, Scrape, ask, scrape
from server import Server, wait_for

BAD = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    raise ValueError("no")
"""
TWO_GATEWAYS = {"CLARY_GATEWAY_PROCESSES": "2", "CLARY_METRICS_INSTANCE_INTERVAL_S": "1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Server(tmp_path_factory.mktemp("prometheus"), **TWO_GATEWAYS) as server:
        yield server


def of(endpoint: str) -> dict[str, str]:
    return {"endpoint": endpoint, "variant": "AllTraffic"}


def wait_for_value(server: Server, wanted: float, name: str, **labels: str) -> Scrape:
    seen: list[Scrape] = []

    def is_there() -> bool:
        seen[:] = [scrape(server)]
        return seen[0].value(name, **labels) == wanted

    try:
        wait_for(is_there, timeout_s=30, what=f"{name} to be {wanted}")
    except AssertionError as error:
        raise AssertionError(f"{error}; it is {seen[0].value(name, **labels)}") from None
    return seen[0]


def test_an_endpoint_is_counted_over_all_gateways(server: Server) -> None:
    server.deploy("counted", {"code/inference.py": ECHO})
    idle = wait_for_value(server, 0.0, "clary_invocations_total", **of("counted"))
    assert idle.value("clary_instances", **of("counted")) == 1
    assert idle.value("clary_variant_traffic_ratio", **of("counted")) == 1.0
    assert idle.value("clary_reporting_processes") == 2
    for _ in range(20):
        server.invoke("counted")
    after = wait_for_value(server, 20.0, "clary_invocations_total", **of("counted"))
    after = wait_for_value(server, 20.0, "clary_model_latency_seconds_count", **of("counted"))
    assert after.value("clary_overhead_latency_seconds_count", **of("counted")) == 20
    assert 0 < (after.value("clary_model_latency_seconds_sum", **of("counted")) or 0) < 60
    assert after.value("clary_model_latency_seconds_bucket", le="+Inf", **of("counted")) == 20
    for kind in ("4xx", "5xx", "no_answer"):
        assert after.value("clary_invocation_errors_total", kind=kind, **of("counted")) == 0
    server.delete_endpoint("counted")


def test_errors_are_counted_by_kind(server: Server) -> None:
    server.deploy("bad", {"code/inference.py": BAD})
    for _ in range(3):
        with pytest.raises(server.runtime.exceptions.ModelError):
            server.invoke("bad")
    wait_for_value(server, 3.0, "clary_invocation_errors_total", kind="5xx", **of("bad"))
    server.delete_endpoint("bad")


def test_processes_and_instances_are_measured(server: Server) -> None:
    server.deploy("measured", {"code/inference.py": ECHO})

    def is_measured() -> bool:
        return scrape(server).value("clary_instances_memory_bytes", **of("measured")) is not None

    wait_for(is_measured, timeout_s=30, what="instances to be measured")
    now = scrape(server)
    assert (now.value("clary_instances_memory_bytes", **of("measured")) or 0) > 1e6
    assert now.value("clary_instances_cpu_cores", **of("measured")) is not None
    names = {
        s.labels["process"] for s in now.samples if s.name == "clary_process_cpu_seconds_total"
    }
    assert {"supervisor", "control", "objects", "gateway-0", "gateway-1"} <= names
    assert not any("host" in name for name in names)
    for name in ("control", "gateway-1"):
        assert (now.value("clary_process_resident_memory_bytes", process=name) or 0) > 1e6
        assert (now.value("clary_process_open_fds", process=name) or 0) > 3
    assert (now.value("clary_endpoints", status="InService") or 0) >= 1
    server.delete_endpoint("measured")


def test_open_metrics_is_spoken_where_it_is_asked_for(server: Server) -> None:
    text, open_metrics = scrape(server), scrape(server, Accept=OPEN)
    assert text.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert open_metrics.content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert {name for name in open_metrics.names if "latency" in name} == {
        name for name in text.names if "latency" in name
    }
    assert "clary_build_info" in open_metrics.names


def test_a_bucket_of_that_name_is_still_a_bucket(server: Server) -> None:
    server.s3.create_bucket(Bucket="metrics")
    server.s3.put_object(Bucket="metrics", Key="a", Body=b"1")
    listed = server.s3.list_objects_v2(Bucket="metrics")
    assert [item["Key"] for item in listed["Contents"]] == ["a"]
    assert "clary_build_info" in scrape(server).names


def test_pages_of_the_browser_do_not_read_it(server: Server) -> None:
    status, _, _ = ask(server, Origin="http://evil.example")
    assert status == 403


def test_counters_go_on_after_a_gateway_was_killed_and_begin_anew_with_control(
    server: Server,
) -> None:
    server.deploy("killed", {"code/inference.py": ECHO})
    for _ in range(5):
        server.invoke("killed")
    wait_for_value(server, 5.0, "clary_invocations_total", **of("killed"))
    for pid in server.pids("clary-gateway"):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: server.health() == 200, timeout_s=20, what="a gateway")
    for _ in range(5):
        server.invoke("killed")
    wait_for_value(server, 10.0, "clary_invocations_total", **of("killed"))
    started = scrape(server).value("clary_control_start_time_seconds") or 0
    (control,) = server.pids("clary-control")
    os.kill(control, signal.SIGKILL)
    server.invoke("killed")  # control is not needed for it

    def is_back() -> bool:
        if ask(server)[0] != 200:  # a busy machine may need longer than requests are held
            return False
        return (scrape(server).value("clary_control_start_time_seconds") or 0) > started

    wait_for(is_back, timeout_s=60, what="control to be back")
    wait_for(
        lambda: (scrape(server).value("clary_invocations_total", **of("killed")) or 0) >= 1,
        timeout_s=30,
        what="the gateways' reports",
    )
    assert (scrape(server).value("clary_invocations_total", **of("killed")) or 0) <= 11
    server.delete_endpoint("killed")


def test_queues_are_seen(server: Server) -> None:
    slow = {
        "code/inference.py": "import time\n\ndef model_fn(model_dir):\n    return None\n\n"
        "def transform_fn(model, data, content_type, accept):\n"
        "    time.sleep(0.3)\n    return data, accept\n"
    }
    server.deploy("queued", slow, environment={"SAGEMAKER_MODEL_SERVER_WORKERS": "1"})
    with Load(server.port, "queued", threads=8) as load:
        wait_for(
            lambda: (scrape(server).value("clary_queued_invocations", **of("queued")) or 0) > 0,
            timeout_s=30,
            what="calls to wait",
        )
        assert load
    server.delete_endpoint("queued")


def test_with_authentication_the_token_opens_the_metrics_and_nothing_else(tmp_path: Path) -> None:
    settings = {"CLARY_AUTH": "on", "CLARY_METRICS_SCRAPE_TOKEN": "let-me-see"}
    with Server(tmp_path, **settings) as server:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Bearer"},
            {"Authorization": "Basic let-me-see"},
        ):
            status, _, body = ask(server, **headers)
            assert status == 403
            assert "metrics.scrape_token" in json.loads(body)["message"]
        token = {"Authorization": "Bearer let-me-see"}
        assert "clary_build_info" in scrape(server, **token).names
        assert ask(server, "/_clary/endpoints/a", **token)[0] == 403
        assert ask(server, "/bucket/key", **token)[0] == 403


def test_without_a_token_only_signed_requests_see_the_metrics(tmp_path: Path) -> None:
    with Server(tmp_path, CLARY_AUTH="on") as server:
        for headers in ({}, {"Authorization": "Bearer "}):
            assert ask(server, **headers)[0] == 403
