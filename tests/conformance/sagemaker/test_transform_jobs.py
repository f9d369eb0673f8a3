"""CreateTransformJob, DescribeTransformJob, ListTransformJobs, StopTransformJob by boto3."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError


@pytest.fixture
def request_of(sagemaker: Any, name: str, container: dict[str, Any]) -> dict[str, Any]:
    """A request whose input is not there, so that the job soon fails."""
    sagemaker.create_model(ModelName=name, PrimaryContainer=container)
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://no-such-bucket/in"}
    return {
        "TransformJobName": name,
        "ModelName": name,
        "TransformInput": {"DataSource": {"S3DataSource": source}, "ContentType": "text/csv"},
        "TransformOutput": {"S3OutputPath": "s3://no-such-bucket/out"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }


def refusal(call: Any, **request: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_a_job_is_described_as_it_was_asked_for(
    sagemaker: Any, request_of: dict[str, Any], name: str
) -> None:
    given = {
        **request_of,
        "MaxPayloadInMB": 2,
        "ModelClientConfig": {"InvocationsTimeoutInSeconds": 5},
        "Environment": {"A": "b"},
    }
    arn = sagemaker.create_transform_job(**given, Tags=[{"Key": "k", "Value": "v"}])[
        "TransformJobArn"
    ]
    assert arn == f"arn:aws:sagemaker:us-east-1:123456789012:transform-job/{name.lower()}"
    found = sagemaker.describe_transform_job(TransformJobName=name)
    assert {member: found[member] for member in given} == given
    assert found["TransformJobArn"] == arn
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "k", "Value": "v"}]
    assert refusal(sagemaker.create_transform_job, **given)[0] == "ResourceInUse"


def test_jobs_are_listed_with_filters_and_pages(
    sagemaker: Any, request_of: dict[str, Any], name: str
) -> None:
    began = datetime.now(UTC) - timedelta(seconds=5)
    names = [f"{name}-Listed-{number}" for number in range(5)]
    for each in names:
        sagemaker.create_transform_job(**{**request_of, "TransformJobName": each})
        sagemaker.stop_transform_job(TransformJobName=each)
    listed, token = [], {}
    while True:
        page = sagemaker.list_transform_jobs(
            NameContains=f"{name}-listed",
            SortBy="Name",
            SortOrder="Ascending",
            MaxResults=2,
            CreationTimeAfter=began,
            **token,
        )
        assert len(page["TransformJobSummaries"]) <= 2
        listed += page["TransformJobSummaries"]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert [job["TransformJobName"] for job in listed] == names
    assert all("LastModifiedTime" in job for job in listed)
    nothing = {"NameContains": name, "CreationTimeBefore": began}
    assert sagemaker.list_transform_jobs(**nothing)["TransformJobSummaries"] == []
    completed = {"NameContains": name, "StatusEquals": "Completed"}
    assert sagemaker.list_transform_jobs(**completed)["TransformJobSummaries"] == []


def test_a_job_that_was_stopped_stops_and_is_stopped_once(
    sagemaker: Any, request_of: dict[str, Any], name: str
) -> None:
    sagemaker.create_transform_job(**request_of)
    sagemaker.stop_transform_job(TransformJobName=name)
    waiter = sagemaker.get_waiter("transform_job_completed_or_stopped")
    waiter.wait(TransformJobName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
    assert refusal(sagemaker.stop_transform_job, TransformJobName=name) == (
        "ValidationException",
        "The request was rejected because the transform job is in status Stopped.",
    )


def test_what_is_not_there(sagemaker: Any, request_of: dict[str, Any]) -> None:
    for call in (sagemaker.describe_transform_job, sagemaker.stop_transform_job):
        assert refusal(call, TransformJobName="no-such-job") == (
            "ResourceNotFound",
            "Could not find requested job with name: no-such-job",
        )
    code, message = refusal(
        sagemaker.create_transform_job, **{**request_of, "ModelName": "no-such-model"}
    )
    assert message.startswith("Could not find model")
    assert code == "ResourceNotFound"


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ({"MaxPayloadInMB": 101}, "MaxPayloadInMB"),
        ({"MaxPayloadInMB": 20, "MaxConcurrentTransforms": 6}, "100 MB"),
        ({"BatchStrategy": "SingleRecord"}, "SplitType"),
        ({"DataProcessing": {"InputFilter": "id"}}, "must begin with"),
        ({"DataProcessing": {"InputFilter": "$.id"}}, "CSV"),
        ({"TransformOutput": {"S3OutputPath": "s3://b/o", "AssembleWith": "Lines"}}, "enum"),
    ],
)
def test_members_that_contradict_each_other(
    sagemaker: Any, request_of: dict[str, Any], members: dict[str, Any], complaint: str
) -> None:
    code, message = refusal(sagemaker.create_transform_job, **{**request_of, **members})
    assert code == "ValidationException"
    assert complaint in message


def test_a_quota_of_instances_holds_for_jobs(sagemaker: Any, request_of: dict[str, Any]) -> None:
    resources = {"InstanceType": "ml.p3.16xlarge", "InstanceCount": 1_000_000}
    code, message = refusal(
        sagemaker.create_transform_job, **{**request_of, "TransformResources": resources}
    )
    assert code == "ResourceLimitExceeded"
    assert "transform jobs" in message
