"""Data capture: what calls and answers looked like lies in S3, and nobody waits for it."""

import base64
import contextlib
import json
import os
import re
import signal
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError, EventStreamError

from load import Load
from server import IMAGE, ROLE, Server, wait_for
from variants import a_variant_of

ECHO = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    if data in ("fail", b"fail"):
        raise ValueError("as you wish")
    return data, accept or content_type
"""

SPELL = """
def model_fn(model_dir):
    return None

def input_fn(data, content_type):
    return data.decode()

def predict_fn(word, model):
    for letter in word:
        if letter == "!":
            raise ValueError("no more")
        yield letter

def output_fn(prediction, accept):
    return prediction, "application/json"
"""

EVERYTHING = [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}]
QUICK = {"CLARY_CAPTURE_FLUSH_S": "0.3", "CLARY_FLEET_MAX_WORKERS": "1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("capture"), **QUICK) as running:
        running.s3.create_bucket(Bucket="captured")
        yield running


def deploy(
    server: Server,
    name: str,
    code: str = ECHO,
    *,
    shadow: str | None = None,
    containers: list[dict[str, Any]] | None = None,
    **capture: Any,
) -> dict[str, Any]:
    """An endpoint that captures everything of every call, but for what ``capture`` says."""
    config: dict[str, Any] = {
        "EndpointConfigName": name,
        "ProductionVariants": [a_variant_of(server, name, code)],
        "DataCaptureConfig": {
            "EnableCapture": True,
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": "s3://captured/here",
            "CaptureOptions": EVERYTHING,
            **capture,
        },
    }
    if shadow is not None:
        config["ShadowProductionVariants"] = [a_variant_of(server, f"{name}-shadow", shadow)]
    if containers is not None:
        server.sagemaker.create_model(
            ModelName=f"{name}-pipeline", Containers=containers, ExecutionRoleArn=ROLE
        )
        config["ProductionVariants"][0]["ModelName"] = f"{name}-pipeline"
    server.sagemaker.create_endpoint_config(**config)
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    return server.wait_for_status(name, "InService")


def keys(server: Server, prefix: str) -> list[str]:
    pages = server.s3.get_paginator("list_objects_v2").paginate(Bucket="captured", Prefix=prefix)
    return [found["Key"] for page in pages for found in page.get("Contents", ())]


def lines(server: Server, endpoint: str, variant: str = "") -> list[dict[str, Any]]:
    """Everything that was captured of an endpoint so far, in the order of the calls."""
    found = []
    for key in keys(server, f"here/{endpoint}/{variant or endpoint}/"):
        body = server.s3.get_object(Bucket="captured", Key=key)["Body"].read()
        found += [json.loads(line) for line in body.decode().splitlines()]
    return sorted(found, key=lambda line: line["eventMetadata"]["eventId"])


def wait_for_lines(server: Server, endpoint: str, count: int, variant: str = "") -> Any:
    found = wait_for(
        lambda: len(lines(server, endpoint, variant)) >= count and lines(server, endpoint, variant),
        timeout_s=20,
        what=f"{count} captured calls",
    )
    assert len(found) == count
    return found


def counters(server: Server, name: str, variant: str = "") -> dict[str, int]:
    with urllib.request.urlopen(f"{server.url}/_clary/endpoints/{name}", timeout=5) as reply:
        found: dict[str, dict[str, int]] = json.load(reply)["counters"]
    return found.get(variant or name, {})


def test_a_call_and_its_answer_lie_in_s3_as_sagemaker_writes_them(server: Server) -> None:
    described = deploy(server, "whole")
    assert described["DataCaptureConfig"] == {
        "EnableCapture": True,
        "CaptureStatus": "Started",
        "CurrentSamplingPercentage": 100,
        "DestinationS3Uri": "s3://captured/here",
        "KmsKeyId": "",
    }
    before = datetime.now(UTC).replace(microsecond=0)
    server.runtime.invoke_endpoint(
        EndpointName="whole",
        Body=b"1,2\n3,4\n",
        ContentType="text/csv",
        Accept="application/json",
        CustomAttributes="trace=7",
        InferenceId="mine-1",
    )

    (line,) = wait_for_lines(server, "whole", 1)

    event_id = line["eventMetadata"].pop("eventId")
    moment = datetime.fromisoformat(line["eventMetadata"].pop("inferenceTime"))
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", event_id)
    assert before <= moment <= datetime.now(UTC)
    assert line == {
        "captureData": {
            "endpointInput": {
                "observedContentType": "text/csv",
                "mode": "INPUT",
                "data": "1,2\n3,4\n",
                "encoding": "CSV",
            },
            "endpointOutput": {
                "observedContentType": "application/json",
                "mode": "OUTPUT",
                "data": "1,2\n3,4\n",
                "encoding": "JSON",
            },
        },
        "eventMetadata": {"customAttributes": ["trace=7"], "inferenceId": "mine-1"},
        "eventVersion": "0",
    }
    (key,) = keys(server, "here/whole/")
    name = r"\d\d-\d\d-\d{3}-[0-9a-f-]{36}\.jsonl"
    assert re.fullmatch(rf"here/whole/whole/{moment:%Y/%m/%d/%H}/{name}", key)


def test_only_what_the_options_name_is_captured_and_further_types_are_text(server: Server) -> None:
    deploy(
        server,
        "half",
        CaptureOptions=[{"CaptureMode": "Output"}],
        CaptureContentTypeHeader={"JsonContentTypes": ["application/jsonlines"]},
    )
    for content_type in ("application/jsonlines; charset=utf-8", "image/png"):
        server.invoke("half", b'{"a": 1}', Accept=content_type)

    text, image = [line["captureData"] for line in wait_for_lines(server, "half", 2)]

    assert list(text) == list(image) == ["endpointOutput"]
    assert text["endpointOutput"]["encoding"] == "JSON"
    assert text["endpointOutput"]["data"] == '{"a": 1}'
    assert image["endpointOutput"]["encoding"] == "BASE64"
    assert base64.b64decode(image["endpointOutput"]["data"]) == b'{"a": 1}'


def test_failed_calls_are_not_captured(server: Server) -> None:
    deploy(server, "failing")
    with pytest.raises(server.runtime.exceptions.ModelError):
        server.invoke("failing", b"fail")
    server.invoke("failing", b"good")
    (line,) = wait_for_lines(server, "failing", 1)
    assert line["captureData"]["endpointInput"]["data"] == "good"


def test_a_share_of_the_calls_is_captured(server: Server) -> None:
    deploy(server, "share", InitialSamplingPercentage=20)
    for _ in range(400):
        server.invoke("share")
    wait_for(
        # 80 on average; so far off once in a million times
        lambda: 40 < counters(server, "share").get("captured", 0) == len(lines(server, "share")),
        what="the captures",
    )
    assert len(lines(server, "share")) < 120


@pytest.mark.parametrize(
    ("capture", "status", "enabled"),
    [
        ({"EnableCapture": False}, "Stopped", False),
        ({"InitialSamplingPercentage": 0}, "Started", True),
    ],
    ids=["off", "no share"],
)
def test_what_is_off_captures_nothing(
    server: Server, capture: dict[str, Any], status: str, enabled: bool
) -> None:
    name = "off" if not enabled else "none"
    described = deploy(server, name, **capture)["DataCaptureConfig"]
    assert (described["CaptureStatus"], described["EnableCapture"]) == (status, enabled)
    for _ in range(20):
        server.invoke(name)
    wait_for(lambda: counters(server, name).get("invocations") == 20, what="the counters")
    assert counters(server, name)["captured"] == 0


def test_large_bodies_that_stream_through_are_captured_whole(server: Server) -> None:
    deploy(server, "large")
    body = os.urandom(3_000_000)
    assert server.invoke("large", body, "application/octet-stream") == body
    (line,) = wait_for_lines(server, "large", 1)
    for side in line["captureData"].values():
        assert base64.b64decode(side["data"]) == body


def test_a_response_stream_is_captured_as_one_answer_and_a_broken_one_is_not(
    server: Server,
) -> None:
    deploy(server, "spell", SPELL)

    def spell(word: bytes) -> list[str]:
        reply = server.runtime.invoke_endpoint_with_response_stream(
            EndpointName="spell", Body=word, ContentType="text/plain"
        )
        with contextlib.closing(reply["Body"]) as events:
            return [event["PayloadPart"]["Bytes"].decode() for event in events]

    with pytest.raises(EventStreamError, match="ModelStreamError"):
        spell(b"ab!cd")
    assert spell(b"[1,2]") == list("[1,2]")

    (line,) = wait_for_lines(server, "spell", 1)

    assert line["captureData"]["endpointOutput"]["data"] == "[1,2]"
    assert line["captureData"]["endpointOutput"]["encoding"] == "JSON"


def test_of_a_pipeline_the_first_request_and_the_last_answer_are_captured(server: Server) -> None:
    def step(word: str) -> dict[str, Any]:
        code = (
            "def model_fn(d): return None\n"
            f"def transform_fn(m, data, ct, accept): return data + ' {word}', 'application/json'\n"
        )
        url = server.upload({"code/inference.py": code}, f"step-{word}")
        return {"Image": IMAGE, "ModelDataUrl": url}

    deploy(server, "line", containers=[step("one"), step("two")])
    server.invoke("line", b"zero")
    (line,) = wait_for_lines(server, "line", 1)
    assert [side["data"] for side in line["captureData"].values()] == ["zero", "zero one two"]


def test_the_copy_for_a_shadow_is_captured_beside_its_original(server: Server) -> None:
    deploy(server, "twice", shadow=ECHO.replace("return data,", "return data * 2,"))
    server.invoke("twice", b"7")

    (original,) = wait_for_lines(server, "twice", 1)
    (copy,) = wait_for_lines(server, "twice", 1, "twice-shadow")

    assert "invocationSource" not in original["eventMetadata"]
    assert copy["eventMetadata"].pop("invocationSource") == "ShadowExperiment"
    assert copy["eventMetadata"] == original["eventMetadata"]
    assert original["captureData"]["endpointOutput"]["data"] == "7"
    assert copy["captureData"]["endpointOutput"]["data"] == "77"


def test_a_bucket_that_comes_later_gets_what_was_kept(server: Server) -> None:
    deploy(server, "later", DestinationS3Uri="s3://not-there-yet")
    server.invoke("later", b"kept")
    log = server.data_dir / "logs/server/jobs.log"
    wait_for(lambda: "not-there-yet" in log.read_text(), what="a first attempt")
    server.s3.create_bucket(Bucket="not-there-yet")

    def found() -> list[Any]:
        return server.s3.list_objects_v2(Bucket="not-there-yet").get("Contents", [])  # type: ignore[no-any-return]

    (one,) = wait_for(found, what="the object")
    assert one["Key"].startswith("later/later/20")


def test_a_destination_outside_of_s3_is_refused(server: Server) -> None:
    with pytest.raises(server.sagemaker.exceptions.ClientError, match="is no place in S3"):
        deploy(server, "elsewhere", DestinationS3Uri="https://example.com/x")


def test_what_was_captured_just_before_the_stop_is_written(server: Server, tmp_path: Any) -> None:
    with Server(tmp_path, CLARY_CAPTURE_FLUSH_S="600") as stopped:
        stopped.s3.create_bucket(Bucket="captured")
        deploy(stopped, "last")
        wait_for(lambda: stopped.pids("clary-jobs"), what="jobs, before the first call")
        wait_for(lambda: serves(stopped, "jobs"), timeout_s=30, what="jobs to take captures")
        for _ in range(50):
            stopped.invoke("last")
        assert stopped.stop() == 0
        stopped.start()
        assert len(lines(stopped, "last")) == 50


def serves(server: Server, role: str) -> bool:
    """Whether a process has loaded its code and answers on its socket."""
    return "Started server process" in (server.data_dir / f"logs/server/{role}.log").read_text()


# Kills ------------------------------------------------------------------------------------


def test_killing_jobs_costs_no_call_and_captures_go_on(server: Server) -> None:
    deploy(server, "under-load")
    with Load(server.port, "under-load") as load:
        wait_for(lambda: lines(server, "under-load"), what="first captures")
        (killed,) = server.pids("clary-jobs")
        os.kill(killed, signal.SIGKILL)
        moment = time.monotonic()
        wait_for(lambda: load.good_since(moment) > 200, timeout_s=30, what="200 calls")
        wait_for(
            lambda: [pid for pid in server.pids("clary-jobs") if pid != killed],
            timeout_s=20,
            what="a new jobs",
        )
        before = len(lines(server, "under-load"))
        wait_for(lambda: len(lines(server, "under-load")) > before + 50, what="more captures")
    assert load.failures == []
    seen = [line["eventMetadata"]["eventId"] for line in lines(server, "under-load")]
    assert len(seen) == len(set(seen)), "nothing is written twice"


def test_while_jobs_hangs_the_queue_stays_bounded_and_calls_go_on(tmp_path: Any) -> None:
    with Server(tmp_path, **QUICK, CLARY_CAPTURE_QUEUE_BYTES="200000") as server:
        server.s3.create_bucket(Bucket="captured")
        deploy(server, "stuck")
        server.invoke("stuck", b"x")
        wait_for_lines(server, "stuck", 1)
        (jobs,) = server.pids("clary-jobs")
        os.kill(jobs, signal.SIGSTOP)
        try:
            # New connections, the control API and S3 know nothing of it either.
            server.upload({"a": b"b"}, "while-jobs-hangs")
            assert server.sagemaker.list_endpoints()["Endpoints"]
            for _ in range(300):
                assert server.invoke("stuck", b"x" * 1000) == b"x" * 1000
            wait_for(lambda: counters(server, "stuck")["capture_dropped"] > 150, what="drops")
        finally:
            os.kill(jobs, signal.SIGCONT)

        def is_settled() -> bool:
            dropped = counters(server, "stuck")["capture_dropped"]
            return len(lines(server, "stuck")) + dropped == 301

        wait_for(is_settled, what="each call to be captured or dropped")


@pytest.mark.parametrize("word", ["clary-gateway", "clary-control", "clary-host", "clary-worker"])
def test_captures_go_on_after_whatever_was_killed(server: Server, word: str) -> None:
    name = f"after-{word.removeprefix('clary-')}"
    deploy(server, name)
    server.invoke(name, b"before")
    wait_for_lines(server, name, 1)
    mine = (word, f"{name}/") if word in ("clary-host", "clary-worker") else (word,)
    (killed,) = server.pids(*mine)
    os.kill(killed, signal.SIGKILL)
    wait_for(
        lambda: [pid for pid in server.pids(*mine) if pid != killed],
        timeout_s=30,
        what=f"a new {word}",
    )
    for _ in range(5):
        wait_for(lambda: server.health() == 200, what="the gateway")
        server.invoke(name, b"after")
    wait_for_lines(server, name, 6)
    wait_for(lambda: answers(server), timeout_s=30, what="control, for the next test")


def answers(server: Server) -> bool:
    """Whether control's API answers."""
    try:
        server.sagemaker.list_models()
    except ClientError:
        return False
    return True


def test_killing_objects_only_delays_captures(server: Server) -> None:
    deploy(server, "delayed")
    os.kill(server.pids("clary-objects")[0], signal.SIGKILL)
    for _ in range(5):
        server.invoke("delayed")
    wait_for_lines(server, "delayed", 5)
