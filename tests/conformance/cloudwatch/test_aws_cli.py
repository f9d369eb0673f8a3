"""The AWS CLI's documented examples of `aws cloudwatch`, those that fit, one after the other."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from aws_cli import AwsCli, needs_aws
from server import Server

pytestmark = needs_aws

ALARM = "cpu-mon"
TOPIC = "arn:aws:sns:us-east-1:111122223333:MyTopic"


@pytest.fixture(scope="module")
def cloudwatch(running: Server, tmp_path_factory: pytest.TempPathFactory) -> AwsCli:
    return AwsCli(running, tmp_path_factory.mktemp("shell"))


def test_points_are_put_and_read(cloudwatch: AwsCli) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    minute = now - timedelta(minutes=10)
    document = {
        "MetricName": "New Posts",
        "Timestamp": f"{minute:%A, %B %d, %Y %I:%M:%S %p}",  # as the example spells it
        "Value": 0.50,
        "Unit": "Count",
    }
    (cloudwatch.directory / "metric.json").write_text(json.dumps([document]))
    put = "cloudwatch put-metric-data "
    assert (
        cloudwatch.line(put + '--namespace "Usage Metrics" --metric-data file://metric.json')
        is None
    )
    buffers = "--metric-name Buffers --namespace MyNameSpace "
    cloudwatch.line(
        f"{put}{buffers}--unit Bytes --value 231434333 "
        "--dimensions InstanceID=1-23456789,InstanceType=m1.small"
    )
    span = (
        f"--start-time {now - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ} "
        f"--end-time {now + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ} "
    )
    posts = cloudwatch.line(
        'cloudwatch get-metric-statistics --metric-name "New Posts" --namespace "Usage Metrics" '
        f"{span}--statistics Maximum SampleCount --period 60"
    )
    assert posts["Label"] == "New Posts"
    (point,) = posts["Datapoints"]
    at = point.pop("Timestamp")  # version 1 prints what is on the wire, version 2 a text
    assert at in (minute.timestamp(), minute.isoformat())
    assert point == {"Maximum": 0.5, "SampleCount": 1.0, "Unit": "Count"}
    several = cloudwatch.line(
        f"cloudwatch get-metric-statistics {buffers}"
        "--dimensions Name=InstanceID,Value=1-23456789 Name=InstanceType,Value=m1.small "
        f"{span}--statistics Average --period 60"
    )
    assert [p["Average"] for p in several["Datapoints"]] == [231434333.0]

    listed = cloudwatch.line('cloudwatch list-metrics --namespace "MyNameSpace"')["Metrics"]
    assert [metric["MetricName"] for metric in listed] == ["Buffers"]
    assert {d["Name"]: d["Value"] for d in listed[0]["Dimensions"]} == {
        "InstanceID": "1-23456789",
        "InstanceType": "m1.small",
    }


def a_query(query_id: str, name: str) -> dict[str, object]:
    metric = {
        "Namespace": "AWS-EC2",
        "MetricName": name,
        "Dimensions": [{"Name": "InstanceId", "Value": "i-abcdef"}],
    }
    stat = {"Metric": metric, "Period": 300, "Stat": "Sum", "Unit": "Count"}
    return {"Id": query_id, "MetricStat": stat, "ReturnData": False}


def test_math_over_two_metrics(cloudwatch: AwsCli) -> None:
    now = datetime.now(UTC)
    queries = [
        {"Id": "m3", "Expression": "(m1+m2)/300", "Label": "Avg Total IOPS"},
        a_query("m1", "Reads"),
        a_query("m2", "Writes"),
    ]
    (cloudwatch.directory / "file.json").write_text(json.dumps(queries))
    for name, value in (("Reads", 29000), ("Writes", 55)):
        cloudwatch.line(
            f"cloudwatch put-metric-data --namespace AWS-EC2 --metric-name {name} "
            f"--dimensions InstanceId=i-abcdef --unit Count --value {value} "
            f"--timestamp {now - timedelta(minutes=30):%Y-%m-%dT%H:%M:%SZ}"
        )
    found = cloudwatch.line(
        "cloudwatch get-metric-data --metric-data-queries file://file.json "
        f"--start-time {now - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ} "
        f"--end-time {now:%Y-%m-%dT%H:%M:%SZ}"
    )
    (result,) = found["MetricDataResults"]
    assert (result["Id"], result["Label"], result["StatusCode"]) == (
        *("m3", "Avg Total IOPS", "Complete"),
    )
    assert result["Values"] == [pytest.approx(96.85)]


def test_an_alarm_is_put_tried_out_and_deleted(cloudwatch: AwsCli) -> None:
    cloudwatch.line(
        f"cloudwatch put-metric-alarm --alarm-name {ALARM} "
        '--alarm-description "Alarm when CPU exceeds 70 percent" --metric-name CPUUtilization '
        "--namespace AWS/EC2 --statistic Average --period 300 --threshold 70 "
        '--comparison-operator GreaterThanThreshold --dimensions "Name=InstanceId,Value=i-12345678"'
        f" --evaluation-periods 2 --alarm-actions {TOPIC} --unit Percent"
    )
    (alarm,) = cloudwatch.line(f"cloudwatch describe-alarms --alarm-names {ALARM}")["MetricAlarms"]
    assert alarm["AlarmArn"] == f"arn:aws:cloudwatch:us-east-1:123456789012:alarm:{ALARM}"
    assert (alarm["Period"], alarm["Threshold"], alarm["Unit"]) == (300, 70.0, "Percent")
    assert alarm["AlarmActions"] == [TOPIC]
    of_metric = cloudwatch.line(
        "cloudwatch describe-alarms-for-metric --metric-name CPUUtilization --namespace AWS/EC2 "
        "--dimensions Name=InstanceId,Value=i-12345678"
    )
    assert [a["AlarmName"] for a in of_metric["MetricAlarms"]] == [ALARM]

    cloudwatch.line(f"cloudwatch disable-alarm-actions --alarm-names {ALARM}")
    cloudwatch.line(
        f"cloudwatch set-alarm-state --alarm-name {ALARM} --state-value ALARM "
        '--state-reason "testing purposes"'
    )
    items = cloudwatch.line(
        f"cloudwatch describe-alarm-history --alarm-name {ALARM} --history-item-type StateUpdate"
    )["AlarmHistoryItems"]
    newest = json.loads(items[0]["HistoryData"])["newState"]
    assert newest == {"stateValue": "ALARM", "stateReason": "testing purposes"}
    assert items[0]["HistorySummary"].endswith(" to ALARM")

    cloudwatch.line(f"cloudwatch delete-alarms --alarm-names {ALARM}")
    found = cloudwatch.line(f"cloudwatch describe-alarms --alarm-names {ALARM}")
    assert found["MetricAlarms"] == []
