from typing import Any

import pytest
from botocore.exceptions import ClientError

ARN = "arn:aws:logs:us-east-1:123456789012:log-group:"


def names_of(logs: Any, **query: Any) -> list[str]:
    pages = logs.get_paginator("describe_log_groups").paginate(**query)
    return [group["logGroupName"] for page in pages for group in page["logGroups"]]


def test_a_group_is_described_as_on_aws(logs: Any, group: str) -> None:
    (found,) = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]

    assert found.pop("creationTime") > 1_700_000_000_000
    assert found == {
        "logGroupName": group,
        "metricFilterCount": 0,
        "arn": f"{ARN}{group}:*",
        "logGroupArn": f"{ARN}{group}",
        "storedBytes": 0,
        "logGroupClass": "STANDARD",
    }


def test_retention_is_put_and_deleted(logs: Any, group: str) -> None:
    def days() -> Any:
        (found,) = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
        return found.get("retentionInDays")

    logs.put_retention_policy(logGroupName=group, retentionInDays=14)
    assert days() == 14
    logs.delete_retention_policy(logGroupName=group)
    assert days() is None


def test_groups_are_listed_in_pages(logs: Any, group: str) -> None:
    wanted = [f"{group}/{letter}" for letter in "abcde"]
    for name in reversed(wanted):
        logs.create_log_group(logGroupName=name)

    assert (
        names_of(logs, logGroupNamePrefix=f"{group}/", PaginationConfig={"PageSize": 2}) == wanted
    )
    assert names_of(logs, logGroupNamePattern=f"{group[-6:]}/c") == [f"{group}/c"]
    assert names_of(logs, logGroupNamePrefix=f"{group}/".upper()) == []


def test_tags_by_both_apis(logs: Any) -> None:
    name = "/tests/tagged"
    logs.create_log_group(logGroupName=name, tags={"a": "1"})
    logs.tag_resource(resourceArn=ARN + name, tags={"b": "2"})
    logs.tag_log_group(logGroupName=name, tags={"c": "3"})
    logs.untag_resource(resourceArn=ARN + name, tagKeys=["a", "never"])

    assert logs.list_tags_for_resource(resourceArn=ARN + name)["tags"] == {"b": "2", "c": "3"}
    logs.untag_log_group(logGroupName=name, tags=["c"])
    assert logs.list_tags_log_group(logGroupName=name)["tags"] == {"b": "2"}


def test_streams_are_created_listed_and_deleted(logs: Any, group: str) -> None:
    for name in ("one/b", "one/a", "two"):
        logs.create_log_stream(logGroupName=group, logStreamName=name)
    pages = logs.get_paginator("describe_log_streams").paginate(
        logGroupName=group, logStreamNamePrefix="one/", PaginationConfig={"PageSize": 1}
    )
    found = [stream for page in pages for stream in page["logStreams"]]

    assert [stream["logStreamName"] for stream in found] == ["one/a", "one/b"]
    assert found[0]["arn"] == f"{ARN}{group}:log-stream:one/a"
    assert "lastEventTimestamp" not in found[0]

    logs.delete_log_stream(logGroupName=group, logStreamName="two")
    left = logs.describe_log_streams(logGroupName=group, descending=True)["logStreams"]
    assert [stream["logStreamName"] for stream in left] == ["one/b", "one/a"]


def test_streams_by_their_last_event(logs: Any, group: str, now_ms: int) -> None:
    for age_s, name in ((30, "old"), (10, "new"), (20, "middle")):
        logs.create_log_stream(logGroupName=group, logStreamName=name)
        event = {"timestamp": now_ms - 1000 * age_s, "message": name}
        logs.put_log_events(logGroupName=group, logStreamName=name, logEvents=[event])
    pages = logs.get_paginator("describe_log_streams").paginate(
        logGroupName=group,
        orderBy="LastEventTime",
        descending=True,
        PaginationConfig={"PageSize": 1},
    )

    found = [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
    assert found == ["new", "middle", "old"]


def test_a_deleted_group_takes_its_events_along(logs: Any, group: str, now_ms: int) -> None:
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    event = {"timestamp": now_ms, "message": "old news"}
    logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=[event])
    logs.delete_log_group(logGroupName=group)
    logs.create_log_group(logGroupName=group)

    assert logs.describe_log_streams(logGroupName=group)["logStreams"] == []
    assert logs.filter_log_events(logGroupName=group)["events"] == []


GROUP_GONE = "The specified log group does not exist."
STREAM_GONE = "The specified log stream does not exist."


@pytest.mark.parametrize(
    ("operation", "parameters", "code", "text"),
    [
        ("delete_log_group", {"logGroupName": "no"}, "ResourceNotFoundException", GROUP_GONE),
        (
            "put_retention_policy",
            {"logGroupName": "no", "retentionInDays": 1},
            "ResourceNotFoundException",
            GROUP_GONE,
        ),
        (
            "get_log_events",
            {"logGroupName": "no", "logStreamName": "s"},
            "ResourceNotFoundException",
            GROUP_GONE,
        ),
        (
            "get_log_events",
            {"logGroupName": "GROUP", "logStreamName": "no"},
            "ResourceNotFoundException",
            STREAM_GONE,
        ),
        (
            "filter_log_events",
            {"logGroupName": "GROUP", "logStreamNames": ["no"]},
            "ResourceNotFoundException",
            STREAM_GONE,
        ),
        (
            "delete_log_stream",
            {"logGroupName": "GROUP", "logStreamName": "no"},
            "ResourceNotFoundException",
            STREAM_GONE,
        ),
        (
            "create_log_group",
            {"logGroupName": "GROUP"},
            "ResourceAlreadyExistsException",
            "The specified log group already exists",
        ),
        (
            "put_retention_policy",
            {"logGroupName": "GROUP", "retentionInDays": 2},
            "InvalidParameterException",
            "Member must satisfy enum value set",
        ),
        (
            "create_log_group",
            {"logGroupName": "with spaces"},
            "InvalidParameterException",
            "1 validation error detected",
        ),
        (
            "create_log_stream",
            {"logGroupName": "GROUP", "logStreamName": "a:b"},
            "InvalidParameterException",
            "",
        ),
        (
            "describe_log_streams",
            {"logGroupName": "GROUP", "orderBy": "LastEventTime", "logStreamNamePrefix": "a"},
            "InvalidParameterException",
            "Cannot order by LastEventTime with a logStreamNamePrefix.",
        ),
        (
            "describe_log_streams",
            {"logGroupName": "GROUP", "nextToken": "nonsense"},
            "InvalidParameterException",
            "The specified nextToken is invalid.",
        ),
        (
            "filter_log_events",
            {"logGroupName": "GROUP", "filterPattern": "{ $.a = "},
            "InvalidParameterException",
            "Invalid filter pattern",
        ),
        ("list_tags_for_resource", {"resourceArn": "not-an-arn"}, "ResourceNotFoundException", ""),
    ],
)
def test_refusals_are_in_the_words_of_aws(
    logs: Any, group: str, operation: str, parameters: dict[str, Any], code: str, text: str
) -> None:
    if parameters.get("logGroupName") == "GROUP":
        parameters = {**parameters, "logGroupName": group}
    with pytest.raises(ClientError) as refused:
        getattr(logs, operation)(**parameters)
    assert refused.value.response["Error"]["Code"] == code
    assert text in refused.value.response["Error"]["Message"]
