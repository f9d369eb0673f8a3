"""An alarm of a running server is heard of: by a listener, in a queue, its history and events."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from listener import Listener
from server import Server, wait_for

QUEUE = "arn:aws:sqs:us-east-1:123456789012:oncall"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("alarms")) as running:
        yield running


def put_alarm(server: Server, name: str, *actions: str) -> None:
    """An alarm over a metric of its own, which is on above 5."""
    server.client("cloudwatch").put_metric_alarm(
        AlarmName=name,
        Namespace="Tests",
        MetricName=name,
        Statistic="Maximum",
        Period=10,
        EvaluationPeriods=1,
        Threshold=5.0,
        ComparisonOperator="GreaterThanThreshold",
        AlarmActions=list(actions),
    )


def put_point(server: Server, name: str, value: float) -> None:
    server.client("cloudwatch").put_metric_data(
        Namespace="Tests",
        MetricData=[{"MetricName": name, "Value": value, "StorageResolution": 1}],
    )


def actions_of(server: Server, name: str) -> list[str]:
    """What its history says of its actions, oldest first."""
    found = server.client("cloudwatch").describe_alarm_history(
        AlarmName=name, HistoryItemType="Action", ScanBy="TimestampAscending"
    )
    return [item["HistorySummary"] for item in found["AlarmHistoryItems"]]


SUBJECT = 'ALARM: "too-high" in US East (N. Virginia)'
"""What a mail about it would be called. Messages need not come in order."""


def events_of(server: Server, name: str) -> list[Any]:
    file = server.data_dir / "events.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    events = {event["id"]: event for event in map(json.loads, lines)}
    return [e for e in events.values() if e["detail"].get("alarmName") == name]


def test_a_metric_that_is_too_high_reaches_a_listener_and_a_queue(server: Server) -> None:
    sns, sqs = server.client("sns"), server.client("sqs")
    topic = sns.create_topic(Name="oncall")["TopicArn"]
    queue = sqs.create_queue(QueueName="oncall")["QueueUrl"]
    with Listener() as listener:
        sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=listener.url)
        sns.confirm_subscription(TopicArn=topic, Token=listener.wait(1)[0].json["Token"])
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=QUEUE)
        put_alarm(server, "too-high", topic)
        put_point(server, "too-high", 9.0)
        posted = wait_for(
            lambda: next((p for p in listener.posted if p.json.get("Subject") == SUBJECT), None),
            timeout_s=60,
            what="the alarm",
        )
    assert posted.headers["x-amz-sns-message-type"] == "Notification"
    assert posted.json["TopicArn"] == topic
    told = json.loads(posted.json["Message"])
    assert (told["AlarmName"], told["NewStateValue"]) == ("too-high", "ALARM")
    assert told["NewStateReason"].startswith("Threshold Crossed: 1 out of the last 1 datapoints")
    assert (told["Trigger"]["MetricName"], told["Trigger"]["Threshold"]) == ("too-high", 5.0)

    queued: list[Any] = []

    def has_the_same() -> bool:
        received = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages", [])
        queued.extend(json.loads(message["Body"]) for message in received)
        return ("Notification", told) in [(e["Type"], json.loads(e["Message"])) for e in queued]

    wait_for(has_the_same, timeout_s=30, what="the same in the queue")
    wait_for(lambda: actions_of(server, "too-high"), what="the history")
    assert actions_of(server, "too-high") == [f"Successfully executed action {topic}"]

    wait_for(lambda: events_of(server, "too-high"), what="the event")
    (event,) = events_of(server, "too-high")
    assert (event["source"], event["detail-type"]) == (
        *("aws.cloudwatch", "CloudWatch Alarm State Change"),
    )
    assert event["resources"] == ["arn:aws:cloudwatch:us-east-1:123456789012:alarm:too-high"]
    assert event["detail"]["previousState"]["value"] == "INSUFFICIENT_DATA"
    assert event["detail"]["state"]["value"] == "ALARM"
    assert event["detail"]["state"]["reason"] == told["NewStateReason"]


def test_a_topic_that_is_not_there_is_a_failed_action(server: Server) -> None:
    gone = "arn:aws:sns:us-east-1:123456789012:gone"
    put_alarm(server, "unheard", gone)
    server.client("cloudwatch").set_alarm_state(
        AlarmName="unheard", StateValue="ALARM", StateReason="testing purposes"
    )
    wait_for(lambda: actions_of(server, "unheard"), what="the history")
    (summary,) = actions_of(server, "unheard")
    assert summary == (
        f'Failed to execute action {gone}. Received error: "NotFound: Topic does not exist"'
    )
    wait_for(lambda: events_of(server, "unheard"), what="the event all the same")
    assert events_of(server, "unheard")[0]["detail"]["state"]["value"] == "ALARM"
