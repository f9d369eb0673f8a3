"""Asynchronous inference when what it needs is missing, away, broken or full of poison."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from botocore.exceptions import ClientError

from async_endpoints import (
    ECHO,
    deploy_async,
    info,
    put_input,
    read_object,
    scale,
    wait_for_end,
    wait_for_object,
)
from listener import Listener
from s3_gate import S3Gate, open_to_all
from server import ROLE, Server, wait_for
from variants import a_variant_of

TOGETHER = """
import asyncio, os

def model_fn(model_dir):
    return None

async def transform_fn(model, data, content_type, accept):
    text = data.decode() if isinstance(data, bytes) else data
    await asyncio.sleep(0.1 if text == "poison" else 0.3)
    if text == "poison":
        os._exit(1)
    return text, content_type
"""
"""Calls that a worker works on side by side end together with it."""

TOPIC = "arn:aws:sns:us-east-1:123456789012:gone"
POISON = """
import os

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    text = data.decode() if isinstance(data, bytes) else data
    if text == "poison":
        os._exit(1)
    if text == "long":
        return b"x" * 400_000, "application/octet-stream"
    return text, content_type
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {
        "CLARY_FLEET_MAX_WORKERS": "2",
        "CLARY_ASYNC_INFERENCE_MAX_BODY_BYTES": "350000",
        "CLARY_ASYNC_INFERENCE_MAX_WORKER_LOSSES": "2",
    }
    with Server(tmp_path_factory.mktemp("async-bad"), **settings) as running:
        running.s3.create_bucket(Bucket="results")
        running.s3.create_bucket(Bucket="inputs")
        deploy_async(running, "fragile", POISON)
        yield running


def call(server: Server, endpoint: str, **members: Any) -> dict[str, Any]:
    reply: dict[str, Any] = server.runtime.invoke_endpoint_async(
        EndpointName=endpoint, ContentType="text/plain", **members
    )
    return reply


def failure_of(server: Server, endpoint: str, reply: dict[str, Any]) -> tuple[str, str]:
    """The reason of a call that has failed, and what lies at its failure location."""
    body = wait_for_object(server, reply["FailureLocation"], timeout_s=60)["Body"]
    assert read_object(server, reply["OutputLocation"]) is None
    told = wait_for_end(server, endpoint, reply["InferenceId"])
    assert told["state"] == "failed"
    return told["reason"], body.decode()


def count_of(server: Server, metric: str, endpoint: str, variant: str | None = None) -> float:
    """The sum of a metric's points of late."""
    now = datetime.now(UTC)
    points = server.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName=metric,
        Dimensions=[
            {"Name": "EndpointName", "Value": endpoint},
            {"Name": "VariantName", "Value": variant or endpoint},
        ],
        StartTime=now - timedelta(minutes=10),
        EndTime=now + timedelta(minutes=2),
        Period=60,
        Statistics=["Sum"],
    )["Datapoints"]
    return float(sum(point["Sum"] for point in points))


def wait_for_count(server: Server, metric: str, endpoint: str, count: int) -> None:
    wait_for(
        lambda: count_of(server, metric, endpoint) >= count,
        timeout_s=60,
        what=f"{metric} of {endpoint} to be {count}",
    )
    assert count_of(server, metric, endpoint) == count


def test_one_poisonous_record_fails_and_the_others_do_not(server: Server) -> None:
    replies = {text: call(server, "fragile", Body=text.encode()) for text in ("a", "poison", "b")}

    reason, said = failure_of(server, "fragile", replies["poison"])
    assert "Received server error (0) from model" in reason
    assert said.startswith("2 workers ended while they worked on it.")
    for text in ("a", "b"):
        output = wait_for_object(server, replies[text]["OutputLocation"], timeout_s=60)
        assert output["Body"] == text.encode()
    wait_for_count(server, "InvocationFailures", "fragile", 1)


@pytest.mark.parametrize("code", [POISON, TOGETHER], ids=["one-by-one", "side-by-side"])
def test_the_neighbours_of_a_poisonous_record_are_not_taken_for_the_cause(
    server: Server, code: str, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    deploy_async(server, name, code)
    texts = [f"{i}" for i in range(20)]
    calls = [*texts[:3], "poison", *texts[3:10], "poison", *texts[10:]]
    replies = [(text, call(server, name, Body=text.encode())) for text in calls]

    ends = [
        (text, wait_for_end(server, name, reply["InferenceId"])["state"]) for text, reply in replies
    ]

    assert ends == [(text, "failed" if text == "poison" else "done") for text in calls]
    wait_for_count(server, "InvocationFailures", name, 2)


def test_an_input_that_is_too_long_is_not_fetched(server: Server) -> None:
    location = put_input(server, "long", b"x" * 350_001)

    reason, said = failure_of(server, "fragile", call(server, "fragile", InputLocation=location))

    assert reason == said
    assert "s3://inputs/long has 350001 bytes, and may have at most 350000" in reason
    wait_for_count(server, "RequestDownloadFailures", "fragile", 1)


def test_an_answer_that_is_too_long_is_a_failure(server: Server) -> None:
    # Of its own: another test counts the failures of "fragile".
    deploy_async(server, "wordy", POISON)
    reason, _ = failure_of(server, "wordy", call(server, "wordy", Body=b"long"))
    assert "answer has more than 350000 bytes" in reason


def test_what_waits_for_too_long_expires(server: Server) -> None:
    deploy_async(server, "late")
    scale(server, "late", 0)
    kept = call(server, "late", Body=b"kept")
    reply = call(server, "late", Body=b"late", RequestTTLSeconds=60)
    told = info(server, "late", reply["InferenceId"])
    accepted, expires = (datetime.fromisoformat(told[n]) for n in ("accepted_at", "expires_at"))
    assert (expires - accepted).total_seconds() == pytest.approx(60, abs=0.01)

    # Its minute is taken from it, for a test cannot wait so long.
    path = server.data_dir / "state.sqlite"
    with closing(sqlite3.connect(path, timeout=20)) as database, database:
        database.execute(
            "UPDATE async_invocations SET expires_at = accepted_at + 1 WHERE inference_id = ?",
            (reply["InferenceId"],),
        )

    reason, said = failure_of(server, "late", reply)
    assert reason == said
    assert "in the queue for longer than RequestTTLSeconds" in reason
    assert info(server, "late", kept["InferenceId"])["state"] == "queued"
    wait_for_count(server, "ExpiredRequests", "late", 1)
    server.sagemaker.delete_endpoint(EndpointName="late")


def test_an_output_bucket_that_is_not_there_is_a_failure(server: Server) -> None:
    server.sagemaker.create_endpoint_config(
        EndpointConfigName="homeless",
        ProductionVariants=[a_variant_of(server, "homeless", ECHO)],
        AsyncInferenceConfig={
            "OutputConfig": {
                "S3OutputPath": "s3://no-such-bucket/out",
                "S3FailurePath": "s3://results/homeless",
            }
        },
    )
    server.sagemaker.create_endpoint(EndpointName="homeless", EndpointConfigName="homeless")
    server.wait_for_status("homeless", "InService")

    reply = call(server, "homeless", Body=b"1")

    body = wait_for_object(server, reply["FailureLocation"])["Body"].decode()
    assert body.startswith("ClientError: The output cannot be written.")
    assert "no-such-bucket" in body
    wait_for_count(server, "ResponseUploadFailures", "homeless", 1)
    server.sagemaker.delete_endpoint(EndpointName="homeless")


def test_a_topic_that_is_not_there_costs_the_notification_only(server: Server) -> None:
    deploy_async(server, "untold", topics={"SuccessTopic": TOPIC})

    reply = call(server, "untold", Body=b"1")

    assert wait_for_object(server, reply["OutputLocation"])["Body"] == b"1"
    assert wait_for_end(server, "untold", reply["InferenceId"])["state"] == "done"
    # One of the call, and one of the test message that the endpoint's creation sends.
    wait_for_count(server, "NotificationFailures", "untold", 2)
    server.sagemaker.delete_endpoint(EndpointName="untold")


def test_sns_that_is_away_gets_each_message_once_it_is_back(tmp_path: Path) -> None:
    with (
        Listener(*[503] * 6) as sns,
        Server(tmp_path, CLARY_NEIGHBOURS_SNS_ENDPOINT_URL=sns.url) as server,
    ):
        server.s3.create_bucket(Bucket="results")
        deploy_async(server, "told", topics={"SuccessTopic": TOPIC, "ErrorTopic": TOPIC})
        ids = [call(server, "told", Body=body)["InferenceId"] for body in (b"1", b"fail")]

        def messages() -> dict[str, list[Any]]:
            found: dict[str, list[Any]] = {each: [] for each in ids}
            for posted in list(sns.posted):
                message = json.loads(parse_qs(posted.body.decode())["Message"][0])
                if message["eventName"] == "InferenceResult":
                    found[message["inferenceId"]].append(message)
            return found

        wait_for(
            lambda: not sns.statuses and all(messages().values()), timeout_s=60, what="messages"
        )
        wait_for(lambda: outbox_count(server) == 0, timeout_s=60, what="the outbox to be empty")
        for each, status in zip(ids, ("Completed", "Failed"), strict=True):
            (first, *again) = messages()[each]
            assert first["invocationStatus"] == status
            assert all(message == first for message in again)


def outbox_count(server: Server) -> int:
    path = server.data_dir / "state.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as database:
        return int(database.execute("SELECT count(*) FROM outbox").fetchone()[0])


def test_no_endpoint_is_both_asynchronous_and_multi_model(server: Server) -> None:
    server.sagemaker.create_model(
        ModelName="many",
        PrimaryContainer={
            "Image": "clary/python:latest",
            "Mode": "MultiModel",
            "ModelDataUrl": "s3://models/many/",
        },
        ExecutionRoleArn=ROLE,
    )
    server.sagemaker.create_endpoint_config(
        EndpointConfigName="many",
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": "many",
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
            }
        ],
        AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": "s3://results/many"}},
    )
    with pytest.raises(ClientError, match="MultiModel") as refused:
        server.sagemaker.create_endpoint(EndpointName="many", EndpointConfigName="many")
    assert refused.value.response["Error"]["Code"] == "ValidationException"


# With an S3 of somebody else, before which a door stands -----------------------------------


class Guest(Server):
    """A server whose objects are another one's, by way of a door."""

    def __init__(self, directory: Path, host: Server, gate: S3Gate) -> None:
        super().__init__(directory, CLARY_STORAGE_S3_ENDPOINT_URL=gate.url)
        self._host = host

    @property
    def s3(self) -> Any:
        return self._host.s3


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Guest, S3Gate]]:
    root = tmp_path_factory.mktemp("gate")
    with (
        Server(root / "host") as host,
        S3Gate(host.url) as gate,
        Guest(root / "guest", host, gate) as running,
    ):
        host.s3.create_bucket(Bucket="results")
        host.s3.create_bucket(Bucket="inputs")
        deploy_async(running, "echo")
        yield running, gate


def test_while_s3_is_away_all_waits_and_nothing_is_lost(guest: tuple[Guest, S3Gate]) -> None:
    server, gate = guest
    places = [put_input(server, f"away-{number}", b"%d" % number) for number in range(3)]
    gate.rule = lambda method, path: "away"
    before = gate.seen["away"]
    replies = [call(server, "echo", InputLocation=place) for place in places]
    replies += [call(server, "echo", Body=b"%d" % number) for number in range(3, 6)]

    # Inputs are asked for again, and so are outputs written: each more than once.
    wait_for(lambda: gate.seen["away"] - before > 20, timeout_s=60, what="attempts")
    states = {info(server, "echo", reply["InferenceId"])["state"] for reply in replies}
    assert states <= {"queued", "running"}
    gate.rule = open_to_all

    for number, reply in enumerate(replies):
        found = wait_for_object(server, reply["OutputLocation"], timeout_s=60)
        assert found["Body"] == b"%d" % number
        assert wait_for_end(server, "echo", reply["InferenceId"])["state"] == "done"
        assert read_object(server, reply["FailureLocation"]) is None


def test_an_output_that_may_not_be_written_is_a_failure(guest: tuple[Guest, S3Gate]) -> None:
    server, gate = guest
    gate.rule = lambda method, path: "deny" if method == "PUT" and "/out/" in path else "pass"

    reply = call(server, "echo", Body=b"1")

    reason, said = failure_of(server, "echo", reply)
    gate.rule = open_to_all
    assert reason == said
    assert reason.startswith("ClientError: The output cannot be written.")
    assert "Read only" in reason


def test_an_input_that_may_not_be_read_is_a_failure(guest: tuple[Guest, S3Gate]) -> None:
    server, gate = guest
    location = put_input(server, "secret", b"1")
    gate.rule = lambda method, path: "deny" if path.startswith("/inputs/secret") else "pass"

    reason, _ = failure_of(server, "echo", call(server, "echo", InputLocation=location))

    gate.rule = open_to_all
    assert reason.startswith("ClientError: The input cannot be read.")
    assert "s3://inputs/secret" in reason


@pytest.mark.parametrize("size", [1000, 600_000])
def test_an_input_that_goes_while_it_is_read_is_a_failure(
    guest: tuple[Guest, S3Gate], size: int
) -> None:
    server, gate = guest
    location = put_input(server, f"going-{size}", b"x" * size)

    def cut_and_remove(method: str, path: str) -> str:
        if method != "GET" or not path.startswith("/inputs/going"):
            return "pass"
        # The second attempt finds nothing.
        return "cut" if gate.seen["cut"] == before else remove()

    def remove() -> str:
        server.s3.delete_object(Bucket="inputs", Key=f"going-{size}")
        return "pass"

    before = gate.seen["cut"]
    gate.rule = cut_and_remove
    reply = call(server, "echo", InputLocation=location)

    reason, _ = failure_of(server, "echo", reply)
    gate.rule = open_to_all
    assert f"Could not find {location}" in reason
    assert info(server, "echo", reply["InferenceId"])["attempts"] == 2
