from typing import Any

import pytest
from botocore.exceptions import ClientError

ARN = "arn:aws:sagemaker:us-east-1:123456789012"


def listed(sagemaker: Any, arn: str) -> dict[str, str]:
    pages = sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
    return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}


@pytest.mark.parametrize("kind", ["model", "endpoint-config", "endpoint"])
def test_tags_are_added_listed_and_deleted(
    sagemaker: Any, name: str, config: str, kind: str
) -> None:
    sagemaker.create_endpoint(
        EndpointName=name, EndpointConfigName=config, Tags=[{"Key": "first", "Value": "1"}]
    )
    arn = f"{ARN}:{kind}/{name.lower()}"
    before = {"first": "1"} if kind == "endpoint" else {}
    assert listed(sagemaker, arn) == before

    reply = sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}])
    assert {"Key": "b", "Value": "2"} in reply["Tags"]
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "b", "Value": ""}])
    assert listed(sagemaker, arn) == {**before, "b": ""}
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["b", "never"])
    assert listed(sagemaker, arn) == before


def test_tags_do_not_show_in_descriptions(
    sagemaker: Any, name: str, container: dict[str, Any]
) -> None:
    sagemaker.create_model(
        ModelName=name, PrimaryContainer=container, Tags=[{"Key": "a", "Value": "b"}]
    )

    assert "Tags" not in sagemaker.describe_model(ModelName=name)


@pytest.mark.parametrize(
    ("arn", "text"),
    [
        (f"{ARN}:endpoint/nobody", "Could not find endpoint"),
        (f"{ARN}:notebook-instance/x", "is no ARN of a thing that has tags here"),
        ("digits", "Member must satisfy regular expression pattern"),
    ],
)
def test_tags_of_nothing_are_refused(sagemaker: Any, arn: str, text: str) -> None:
    for call in (
        lambda: sagemaker.list_tags(ResourceArn=arn),
        lambda: sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "a", "Value": "b"}]),
        lambda: sagemaker.delete_tags(ResourceArn=arn, TagKeys=["a"]),
    ):
        with pytest.raises(ClientError, match=text) as refused:
            call()
        assert refused.value.response["Error"]["Code"] == "ValidationException"
