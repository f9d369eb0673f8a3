from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

ARN = "arn:aws:sagemaker:us-east-1:123456789012"
ROLE = "arn:aws:iam::123456789012:role/service-role/tests"


def described(sagemaker: Any, name: str) -> dict[str, Any]:
    reply: dict[str, Any] = sagemaker.describe_model(ModelName=name)
    reply.pop("ResponseMetadata")
    return reply


def test_a_model_is_described_as_it_was_written(sagemaker: Any, name: str) -> None:
    definition = {
        "PrimaryContainer": {
            "Image": "repo/image:1",
            "Mode": "SingleModel",
            "ModelDataSource": {
                "S3DataSource": {
                    "S3Uri": "s3://bucket/prefix/",
                    "S3DataType": "S3Prefix",
                    "CompressionType": "None",
                }
            },
            "Environment": {"A": "1", "EMPTY": ""},
        },
        "ExecutionRoleArn": ROLE,
        "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
        "EnableNetworkIsolation": True,
    }
    before = datetime.now(UTC) - timedelta(seconds=1)
    reply = sagemaker.create_model(ModelName=name, **definition, Tags=[{"Key": "a", "Value": "b"}])

    found = described(sagemaker, name)

    assert reply["ModelArn"] == f"{ARN}:model/{name.lower()}"
    assert before < found.pop("CreationTime") < datetime.now(UTC) + timedelta(seconds=1)
    assert found == {"ModelName": name, "ModelArn": reply["ModelArn"], **definition}


def test_what_is_empty_is_absent_from_the_description(sagemaker: Any, name: str) -> None:
    sagemaker.create_model(
        ModelName=name,
        PrimaryContainer={"Image": "i", "Environment": {}},
        Containers=[],
        ExecutionRoleArn=ROLE,
        Tags=[],
    )

    found = described(sagemaker, name)

    assert found["PrimaryContainer"] == {"Image": "i"}
    assert set(found) == {
        "ModelName", "ModelArn", "CreationTime", "PrimaryContainer", "ExecutionRoleArn",
        "EnableNetworkIsolation",
    }  # fmt: skip


def test_kinds_that_cannot_run_yet_are_kept_all_the_same(sagemaker: Any, name: str) -> None:
    containers = [
        {"Image": "i", "ContainerHostname": "first"},
        {"Image": "j", "ContainerHostname": "second", "Environment": {"A": "1"}},
    ]
    sagemaker.create_model(
        ModelName=name, Containers=containers, InferenceExecutionConfig={"Mode": "Serial"}
    )
    multi = {
        "Image": "i",
        "Mode": "MultiModel",
        "ModelDataUrl": "s3://bucket/models/",
        "MultiModelConfig": {"ModelCacheSetting": "Disabled"},
    }
    sagemaker.create_model(ModelName=f"{name}-multi", PrimaryContainer=multi)

    assert described(sagemaker, name)["Containers"] == containers
    assert described(sagemaker, f"{name}-multi")["PrimaryContainer"] == multi


def test_a_taken_name_is_refused_in_the_words_that_sdks_match_on(
    sagemaker: Any, name: str, container: dict[str, Any]
) -> None:
    sagemaker.create_model(ModelName=name, PrimaryContainer=container)

    for again in (name, name.upper()):
        with pytest.raises(ClientError) as refused:
            sagemaker.create_model(ModelName=again, PrimaryContainer=container)
        error = refused.value.response["Error"]
        assert error["Code"] == "ValidationException"
        assert error["Message"] == (
            f'Cannot create already existing model "{ARN}:model/{name.lower()}".'
        )
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_a_deleted_model_could_not_be_found(
    sagemaker: Any, name: str, container: dict[str, Any]
) -> None:
    sagemaker.create_model(ModelName=name, PrimaryContainer=container)
    sagemaker.delete_model(ModelName=name)

    for call in (sagemaker.describe_model, sagemaker.delete_model):
        with pytest.raises(ClientError) as refused:
            call(ModelName=name)
        assert refused.value.response["Error"] == {
            "Code": "ValidationException",
            "Message": f'Could not find model "{ARN}:model/{name.lower()}".',
        }


def test_all_that_is_wrong_is_told_at_once(sagemaker: Any) -> None:
    with pytest.raises(ClientError) as refused:
        sagemaker.create_model(
            ModelName="under_score",
            Containers=[{"Image": "i", "Mode": "Sideways"}],
            ExecutionRoleArn="x",
        )

    error = refused.value.response["Error"]
    assert error["Code"] == "ValidationException"
    assert error["Message"].startswith("4 validation errors detected: ")
    assert (
        "Value 'under_score' at 'modelName' failed to satisfy constraint: Member must satisfy"
        in (error["Message"])
    )
    assert "Value 'Sideways' at 'containers.1.member.mode'" in error["Message"]
    assert "Member must have length greater than or equal to 20" in error["Message"]


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({}, "needs a PrimaryContainer"),
        ({"PrimaryContainer": {"Image": "i"}, "Containers": [{"Image": "i"}]}, "cannot both"),
        ({"PrimaryContainer": {"ModelDataUrl": "s3://b/k"}}, "needs an Image"),
        (
            {"Containers": [{"Image": "i", "ContainerHostname": "a"}, {"Image": "i"}]},
            "every container must have one",
        ),
        ({"Containers": [{"Image": "i", "ContainerHostname": "a"}] * 2}, "must be unique"),
        (
            {
                "Containers": [{"Image": "i"}, {"Image": "i"}],
                "InferenceExecutionConfig": {"Mode": "Direct"},
            },
            "must have a ContainerHostname",
        ),
        (
            {
                "PrimaryContainer": {"Image": "i"},
                "InferenceExecutionConfig": {"Mode": "Direct"},
            },
            "models with several Containers",
        ),
        (
            {
                "PrimaryContainer": {
                    "Image": "i",
                    "ModelDataUrl": "s3://b/k",
                    "ModelDataSource": {
                        "S3DataSource": {
                            "S3Uri": "s3://b/k",
                            "S3DataType": "S3Object",
                            "CompressionType": "Gzip",
                        }
                    },
                }
            },
            "cannot both",
        ),
        ({"PrimaryContainer": {"Image": "i"}, "Tags": [{"Key": "a", "Value": ""}] * 2}, "twice"),
    ],
)
def test_contradictions_are_refused(
    sagemaker: Any, name: str, parameters: dict[str, Any], text: str
) -> None:
    with pytest.raises(ClientError, match=text) as refused:
        sagemaker.create_model(ModelName=name, **parameters)

    assert refused.value.response["Error"]["Code"] == "ValidationException"
    with pytest.raises(ClientError, match="Could not find model"):
        sagemaker.describe_model(ModelName=name)


def test_roles_of_made_up_accounts_are_accepted(
    sagemaker: Any, name: str, container: dict[str, Any]
) -> None:
    role = "arn:aws:iam::123456789:role/SageMakerRole"

    sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=role)

    assert described(sagemaker, name)["ExecutionRoleArn"] == role


def test_lists_are_paged_filtered_and_sorted(
    sagemaker: Any, name: str, container: dict[str, Any]
) -> None:
    names = [f"{name}-page-{i}" for i in range(5)]
    for each in names:
        sagemaker.create_model(ModelName=each, PrimaryContainer=container)
    pages = sagemaker.get_paginator("list_models").paginate(
        NameContains=f"{name}-PAGE",
        SortBy="Name",
        SortOrder="Ascending",
        PaginationConfig={"PageSize": 2},
    )

    found = [[model["ModelName"] for model in page["Models"]] for page in pages]

    assert found == [names[0:2], names[2:4], names[4:]]
    newest = sagemaker.list_models(NameContains=f"{name}-page", MaxResults=1)
    assert newest["Models"][0]["ModelName"] == names[-1]
    assert newest["Models"][0]["ModelArn"].endswith(f"/{names[-1].lower()}")
    with pytest.raises(ClientError, match="NextToken is invalid"):
        sagemaker.list_models(NameContains="other", NextToken=newest["NextToken"])
    with pytest.raises(ClientError, match="NextToken is invalid"):
        sagemaker.list_models(NextToken="nonsense")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert sagemaker.list_models(CreationTimeAfter=tomorrow)["Models"] == []
