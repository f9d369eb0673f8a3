"""Asynchronous inference: calls are accepted, and their results lie in S3."""

import base64
import json
import re
from collections.abc import Iterator

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
from server import Server, wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"CLARY_FLEET_MAX_WORKERS": "2"}
    with Server(tmp_path_factory.mktemp("async"), **settings) as running:
        running.s3.create_bucket(Bucket="results")
        running.s3.create_bucket(Bucket="inputs")
        deploy_async(running, "echo")
        yield running


def test_input_from_s3_becomes_an_output_object(server: Server) -> None:
    location = put_input(server, "a b/one.csv", b"1,2,3")

    reply = server.runtime.invoke_endpoint_async(
        EndpointName="echo", InputLocation=location, ContentType="text/csv", Accept="text/csv"
    )

    assert reply["ResponseMetadata"]["HTTPStatusCode"] == 202
    found = wait_for_object(server, reply["OutputLocation"])
    assert (found["Body"], found["ContentType"]) == (b"1,2,3", "text/csv")
    assert reply["OutputLocation"] == f"s3://results/echo/out/{reply['InferenceId']}.out"
    assert read_object(server, reply["FailureLocation"]) is None


def test_a_body_may_come_with_the_call(server: Server) -> None:
    reply = server.runtime.invoke_endpoint_async(
        EndpointName="echo", Body=b"[1]", ContentType="application/json", InferenceId="mine"
    )

    assert reply["InferenceId"] == "mine"
    assert wait_for_object(server, reply["OutputLocation"])["Body"] == b"[1]"


def test_a_failure_lies_where_failures_go(server: Server) -> None:
    reply = server.runtime.invoke_endpoint_async(
        EndpointName="echo", Body=b"fail now", ContentType="text/plain"
    )

    found = wait_for_object(server, reply["FailureLocation"])
    assert b"as you wish" in found["Body"]
    assert read_object(server, reply["OutputLocation"]) is None
    told = wait_for_end(server, "echo", reply["InferenceId"])
    assert told["state"] == "failed"
    assert told["reason"] == (
        "ClientError: Received server error (500) from model. "
        "See the SageMaker Endpoint logs in your account for more information."
    )
    assert told["attempts"] == 1  # what the container says is not asked for again


def test_a_caller_may_name_the_output(server: Server) -> None:
    reply = server.runtime.invoke_endpoint_async(
        EndpointName="echo",
        InputLocation=put_input(server, "named", b"1"),
        S3OutputPathExtension="team/one",
        Filename="mine.json",
    )
    assert reply["OutputLocation"] == "s3://results/echo/out/team/one/mine.json"
    assert wait_for_object(server, reply["OutputLocation"])["Body"] == b"1"

    # The name is the caller's: the next call of that name takes its place.
    server.runtime.invoke_endpoint_async(
        EndpointName="echo", Body=b"2", S3OutputPathExtension="team/one", Filename="mine.json"
    )
    wait_for(
        lambda: wait_for_object(server, reply["OutputLocation"])["Body"] == b"2",
        what="the second output",
    )


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("s3://inputs/nothing-there", "Could not find s3://inputs/nothing-there"),
        ("s3://no-such-bucket/a", "Could not find s3://no-such-bucket/a"),
    ],
)
def test_an_input_that_is_not_there_is_a_failure(server: Server, location: str, words: str) -> None:
    reply = server.runtime.invoke_endpoint_async(EndpointName="echo", InputLocation=location)

    assert words.encode() in wait_for_object(server, reply["FailureLocation"])["Body"]
    assert words in wait_for_end(server, "echo", reply["InferenceId"])["reason"]


def test_the_container_has_the_time_that_the_call_gives_it(server: Server) -> None:
    reply = server.runtime.invoke_endpoint_async(
        EndpointName="echo", Body=b"sleep 5", InvocationTimeoutSeconds=1
    )

    found = wait_for_object(server, reply["FailureLocation"], timeout_s=10)
    assert b"did not answer within 1 s" in found["Body"]
    assert "server error (0)" in wait_for_end(server, "echo", reply["InferenceId"])["reason"]


def test_endpoints_take_one_kind_of_calls(server: Server) -> None:
    server.deploy("plain", {"code/inference.py": ECHO})

    with pytest.raises(ClientError, match="InvokeEndpointAsync only") as refused:
        server.invoke("echo", b"1")
    assert refused.value.response["Error"]["Code"] == "ValidationError"
    with pytest.raises(ClientError, match="not an asynchronous endpoint") as refused:
        server.runtime.invoke_endpoint_async(EndpointName="plain", Body=b"1")
    assert refused.value.response["Error"]["Code"] == "ValidationError"
    with pytest.raises(ClientError, match="Endpoint none of account 123456789012 not found"):
        server.runtime.invoke_endpoint_async(EndpointName="none", Body=b"1")
    server.delete_endpoint("plain")


def test_people_see_positions_while_nobody_works(server: Server) -> None:
    deploy_async(server, "asleep")
    scale(server, "asleep", 0)
    ids = [
        server.runtime.invoke_endpoint_async(EndpointName="asleep", Body=b"%d" % n)["InferenceId"]
        for n in range(3)
    ]

    told = [info(server, "asleep", each) for each in ids]
    assert [each["state"] for each in told] == ["queued"] * 3
    assert [each["position"] for each in told] == [0, 1, 2]

    # An instance comes, and what waited is done.
    scale(server, "asleep", 1)
    for n, each in enumerate(ids):
        told_now = wait_for_end(server, "asleep", each)
        assert told_now["state"] == "done"
        assert wait_for_object(server, told_now["output_location"])["Body"] == b"%d" % n
    server.sagemaker.delete_endpoint(EndpointName="asleep")


def test_long_bodies_pass_without_being_held(server: Server) -> None:
    size = 24 * 1024 * 1024
    body = bytes(range(256)) * (size // 256)
    reply = server.runtime.invoke_endpoint_async(
        EndpointName="echo",
        InputLocation=put_input(server, "long", body),
        ContentType="application/octet-stream",
    )

    assert wait_for_object(server, reply["OutputLocation"], timeout_s=30)["Body"] == body
    kept = server.data_dir / "jobs" / "async"
    wait_for(lambda: not list(kept.iterdir()), what="the files to be removed")


def test_polling_as_the_sdk_does_finds_one_of_the_two(server: Server) -> None:
    """Two waiters poll with HeadObject; a missing object must be a 404."""
    for body, is_good in ((b"1", True), (b"fail", False)):
        reply = server.runtime.invoke_endpoint_async(EndpointName="echo", Body=body)
        locations = [reply["OutputLocation"], reply["FailureLocation"]]
        waiter = server.s3.get_waiter("object_exists")
        bucket, _, key = locations[not is_good].removeprefix("s3://").partition("/")
        waiter.wait(Bucket=bucket, Key=key, WaiterConfig={"Delay": 1, "MaxAttempts": 20})
        assert read_object(server, locations[is_good]) is None


def test_topics_are_told_as_sagemaker_tells_them(server: Server) -> None:
    sns = server.client("sns")
    good, bad = (sns.create_topic(Name=name)["TopicArn"] for name in ("good", "bad"))
    with Listener() as happy, Listener() as sad:
        for topic, listener in ((good, happy), (bad, sad)):
            sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=listener.url)
            token = listener.wait(1)[0].json["Token"]
            sns.confirm_subscription(TopicArn=topic, Token=token)
        deploy_async(
            server,
            "told",
            topics={
                "SuccessTopic": good,
                "ErrorTopic": bad,
                "IncludeInferenceResponseIn": [
                    "SUCCESS_NOTIFICATION_TOPIC",
                    "ERROR_NOTIFICATION_TOPIC",
                ],
            },
        )
        for listener in (happy, sad):
            assert json.loads(listener.wait(2)[1].json["Message"]) == {
                "eventVersion": "1.0",
                "eventSource": "aws:sagemaker",
                "eventName": "TestNotification",
            }
        location = put_input(server, "told", b"4")
        reply = server.runtime.invoke_endpoint_async(
            EndpointName="told",
            InputLocation=location,
            ContentType="text/csv",
            Accept="text/csv",
            InferenceId="call one",
        )
        failing = server.runtime.invoke_endpoint_async(EndpointName="told", Body=b"fail it")
        envelope = happy.wait(3)[2].json
        message = json.loads(envelope["Message"])
        failure = json.loads(sad.wait(3)[2].json["Message"])
    assert "Subject" not in envelope or envelope["Subject"] is None
    for each in (message, failure):
        for name in ("eventTime", "receivedTime"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", each.pop(name))
    assert message == {
        "awsRegion": "us-east-1",
        "invocationStatus": "Completed",
        "requestParameters": {
            "contentType": "text/csv",
            "accept": "text/csv",
            "endpointName": "told",
            "inputLocation": location,
        },
        "responseParameters": {
            "contentType": "text/csv",
            "outputLocation": reply["OutputLocation"],
        },
        "responseBody": {
            "content": base64.b64encode(b"4").decode(),
            "message": None,
            "encoding": "BASE64",
        },
        "inferenceId": "call one",
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }
    content = base64.b64decode(failure.pop("responseBody")["content"])
    assert b"as you wish" in content
    assert failure == {
        "awsRegion": "us-east-1",
        "invocationStatus": "Failed",
        "failureReason": (
            "ClientError: Received server error (500) from model. "
            "See the SageMaker Endpoint logs in your account for more information."
        ),
        "requestParameters": {"endpointName": "told"},
        "responseParameters": {
            "contentType": failure["responseParameters"]["contentType"],
            "failureLocation": failing["FailureLocation"],
        },
        "inferenceId": failing["InferenceId"],
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }
    server.sagemaker.delete_endpoint(EndpointName="told")


def test_the_log_says_what_became_of_each(server: Server) -> None:
    reply = server.runtime.invoke_endpoint_async(EndpointName="echo", Body=b"1")
    logs, group = server.client("logs"), "/aws/sagemaker/Endpoints/echo"

    def lines() -> list[str]:
        found = logs.filter_log_events(logGroupName=group)["events"]
        return [
            event["message"]
            for event in found
            if event["logStreamName"].endswith("/data-log")
            and reply["InferenceId"] in event["message"]
        ]

    (line,) = wait_for(lines, what="the line in the log")
    assert "Inference request succeeded. ModelLatency: " in line
