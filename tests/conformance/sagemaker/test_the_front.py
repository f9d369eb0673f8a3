"""What is the same for all operations, and the services beside SageMaker."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError


def post(url: str, body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, dict(reply.headers), reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def test_every_reply_carries_a_request_id(sagemaker: Any) -> None:
    good = sagemaker.list_models()["ResponseMetadata"]["RequestId"]
    with pytest.raises(ClientError) as refused:
        sagemaker.describe_model(ModelName="nobody")
    bad = refused.value.response["ResponseMetadata"]["RequestId"]

    assert len(good) == len(bad) == 36
    assert good != bad


def test_an_operation_that_is_not_built_says_so_and_is_not_retried(sagemaker: Any) -> None:
    with pytest.raises(ClientError) as refused:
        sagemaker.create_training_job(
            TrainingJobName="x",
            AlgorithmSpecification={"TrainingInputMode": "File"},
            RoleArn="arn:aws:iam::123456789012:role/r",
            OutputDataConfig={"S3OutputPath": "s3://b"},
            ResourceConfig={"VolumeSizeInGB": 1},
            StoppingCondition={},
        )

    response = refused.value.response
    assert response["Error"]["Code"] == "NotImplemented"
    assert "CreateTrainingJob of sagemaker is not built" in response["Error"]["Message"]
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 501
    assert response["ResponseMetadata"]["RetryAttempts"] == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"no json", "SerializationException"),
        (b"[]", "SerializationException"),
        (b'{"ModelName": 5}', "SerializationException"),
        (b'{"ModelName": "' + b"x" * 64 + b'"}', "ValidationException"),
        (b"{}", "ValidationException"),
        (b"[" * 100_000, "SerializationException"),
    ],
)
def test_bodies_of_the_wrong_form_are_refused(endpoint_url: str, body: bytes, code: str) -> None:
    status, _, reply = post(endpoint_url, body, **{"X-Amz-Target": "SageMaker.DescribeModel"})

    assert status == 400
    assert json.loads(reply)["__type"] == code


def test_unknown_operations_are_refused(endpoint_url: str) -> None:
    status, _, reply = post(endpoint_url, b"{}", **{"X-Amz-Target": "SageMaker.Nonsense"})

    assert status == 400
    assert json.loads(reply)["__type"] == "UnknownOperationException"


@pytest.mark.parametrize(
    ("service", "operation"),
    [("dynamodb", "list_tables"), ("cloudformation", "list_stacks"), ("ssm", "list_documents")],
)
def test_a_service_that_is_not_here_is_named(
    make_client: Callable[[str], Any], service: str, operation: str
) -> None:
    with pytest.raises(ClientError, match=f"no service '{service}'") as refused:
        getattr(make_client(service), operation)()

    assert refused.value.response["Error"]["Code"] == "NotImplemented"


@pytest.mark.parametrize(
    ("service", "operation"),
    [("cloudwatch", "describe_insight_rules"), ("logs", "describe_destinations")],
)
def test_an_operation_that_is_not_built_is_named(
    make_client: Callable[[str], Any], service: str, operation: str
) -> None:
    with pytest.raises(ClientError, match=f"of {service} is not built") as refused:
        getattr(make_client(service), operation)()

    assert refused.value.response["Error"]["Code"] == "NotImplemented"


def test_lists_of_what_this_server_never_has_are_empty(sagemaker: Any) -> None:
    assert sagemaker.list_monitoring_schedules()["MonitoringScheduleSummaries"] == []
    assert sagemaker.list_contexts()["ContextSummaries"] == []


def test_the_caller_is_an_assumed_role(make_client: Callable[[str], Any]) -> None:
    identity = make_client("sts").get_caller_identity()

    assert identity["Account"] == "123456789012"
    assert identity["Arn"] == "arn:aws:sts::123456789012:assumed-role/clary/local"
    assert identity["UserId"].endswith(":local")


def test_a_role_is_assumed_and_a_session_token_is_given(make_client: Callable[[str], Any]) -> None:
    sts = make_client("sts")
    reply = sts.assume_role(
        RoleArn="arn:aws:iam::123456789012:role/path/builder", RoleSessionName="me"
    )
    token = sts.get_session_token(DurationSeconds=900)

    assert reply["AssumedRoleUser"]["Arn"] == ("arn:aws:sts::123456789012:assumed-role/builder/me")
    for credentials in (reply["Credentials"], token["Credentials"]):
        assert credentials["Expiration"] > datetime.now(UTC)
        assert credentials["AccessKeyId"]
        assert credentials["SecretAccessKey"]
        assert credentials["SessionToken"]


def test_what_is_no_role_is_not_assumed(make_client: Callable[[str], Any]) -> None:
    with pytest.raises(ClientError, match="no ARN of a role") as refused:
        make_client("sts").assume_role(RoleArn="arn:aws:iam::1:user/somebody", RoleSessionName="me")

    assert refused.value.response["Error"]["Code"] == "ValidationError"
