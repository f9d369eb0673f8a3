"""Alarms as boto3 sees them, in every protocol that CloudWatch clients speak."""

import json
import os
import signal
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from server import Server, wait_for

TOPIC = "arn:aws:sns:us-east-1:123456789012:oncall"
ARN = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:"


@pytest.fixture
def name() -> str:
    return f"alarm-{uuid.uuid4().hex[:8]}"


def an_alarm(name: str, **members: Any) -> dict[str, Any]:
    alarm = {
        "AlarmName": name,
        "Namespace": "AWS/SageMaker",
        "MetricName": "ModelLatency",
        "Dimensions": [{"Name": "EndpointName", "Value": name}],
        "Statistic": "Average",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 250.5,
        "ComparisonOperator": "GreaterThanThreshold",
        **members,
    }
    return {key: value for key, value in alarm.items() if value is not None}


def described(client: Any, name: str) -> dict[str, Any]:
    (alarm,) = client.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    return dict(alarm)


def refusal(call: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as refused:
        call()
    error = refused.value.response["Error"]
    return error["Code"], error["Message"]


def test_an_alarm_is_described_as_it_was_put(any_cloudwatch: Any, name: str) -> None:
    wanted = an_alarm(
        name,
        AlarmDescription="Slow",
        EvaluationPeriods=3,
        DatapointsToAlarm=2,
        TreatMissingData="ignore",
        AlarmActions=[TOPIC],
        Unit="Microseconds",
        Tags=[{"Key": "team", "Value": "ml"}],
    )
    any_cloudwatch.put_metric_alarm(**wanted)
    any_cloudwatch.get_waiter("alarm_exists").wait(AlarmNames=[name])
    alarm = described(any_cloudwatch, name)
    del wanted["Tags"]
    assert {key: alarm[key] for key in wanted} == wanted
    assert alarm["AlarmArn"] == ARN + name
    assert alarm["ActionsEnabled"] is True
    assert alarm["OKActions"] == []
    assert alarm["StateValue"] == "INSUFFICIENT_DATA"
    assert "ExtendedStatistic" not in alarm
    assert datetime.now(UTC) - alarm["StateUpdatedTimestamp"] < timedelta(minutes=1)

    tags = any_cloudwatch.list_tags_for_resource(ResourceARN=ARN + name)["Tags"]
    assert tags == [{"Key": "team", "Value": "ml"}]
    any_cloudwatch.tag_resource(ResourceARN=ARN + name, Tags=[{"Key": "a", "Value": "b"}])
    any_cloudwatch.untag_resource(ResourceARN=ARN + name, TagKeys=["team"])
    tags = any_cloudwatch.list_tags_for_resource(ResourceARN=ARN + name)["Tags"]
    assert tags == [{"Key": "a", "Value": "b"}]
    any_cloudwatch.delete_alarms(AlarmNames=[name])
    code, _ = refusal(lambda: any_cloudwatch.list_tags_for_resource(ResourceARN=ARN + name))
    assert code == "ResourceNotFoundException"


def test_an_alarm_over_an_expression_is_described_as_it_was_put(
    any_cloudwatch: Any, name: str
) -> None:
    def metric(id: str, metric_name: str) -> dict[str, Any]:
        return {
            "Id": id,
            "MetricStat": {
                "Metric": {
                    "Namespace": "AWS/SageMaker",
                    "MetricName": metric_name,
                    "Dimensions": [{"Name": "EndpointName", "Value": name}],
                },
                "Period": 60,
                "Stat": "Sum",
            },
            "ReturnData": False,
        }

    queries = [
        {"Id": "rate", "Expression": "100 * errors / calls", "Label": "%", "ReturnData": True},
        metric("errors", "Invocation5XXErrors"),
        metric("calls", "Invocations"),
    ]
    any_cloudwatch.put_metric_alarm(
        AlarmName=name,
        Metrics=queries,
        EvaluationPeriods=1,
        Threshold=5,
        ComparisonOperator="GreaterThanThreshold",
    )
    alarm = described(any_cloudwatch, name)
    assert alarm["Metrics"] == queries
    assert "MetricName" not in alarm
    assert "Dimensions" not in alarm


def test_a_breach_is_an_alarm_with_a_history(cloudwatch: Any, name: str) -> None:
    cloudwatch.put_metric_alarm(
        **an_alarm(
            name,
            Namespace="Mine",
            Period=10,
            Statistic="Maximum",
            AlarmActions=[TOPIC],
            TreatMissingData="notBreaching",
        )
    )
    wait_for(
        lambda: described(cloudwatch, name)["StateValue"] == "OK",
        what="the first evaluation",
    )
    cloudwatch.put_metric_data(
        Namespace="Mine",
        MetricData=[
            {
                "MetricName": "ModelLatency",
                "Dimensions": [{"Name": "EndpointName", "Value": name}],
                "Value": 300.0,
                "StorageResolution": 1,
            }
        ],
    )
    wait_for(
        lambda: described(cloudwatch, name)["StateValue"] == "ALARM",
        timeout_s=20,
        what="the alarm",
    )
    alarm = described(cloudwatch, name)
    assert alarm["StateReason"].startswith(
        "Threshold Crossed: 1 out of the last 1 datapoints [300.0 ("
    )
    data = json.loads(alarm["StateReasonData"])
    assert (data["recentDatapoints"][-1], data["threshold"]) == (300.0, 250.5)

    def history() -> list[str]:
        items = cloudwatch.describe_alarm_history(AlarmName=name, ScanBy="TimestampAscending")[
            "AlarmHistoryItems"
        ]
        return [item["HistorySummary"] for item in items]

    wait_for(lambda: len(history()) >= 4, what="the action")
    created, to_ok, to_alarm, action = history()[:4]
    assert created == f'Alarm "{name}" created'
    assert to_ok == "Alarm updated from INSUFFICIENT_DATA to OK"
    assert to_alarm == "Alarm updated from OK to ALARM"
    assert action.startswith(("Successfully executed action", "Failed to execute action"))


def test_a_percentile_of_a_metric_without_data_is_judged_by_the_setting(
    cloudwatch: Any, name: str
) -> None:
    """A metric that nobody knows is no error; what it means is for the alarm to say."""
    wanted = {"missing": "INSUFFICIENT_DATA", "notBreaching": "OK", "breaching": "ALARM"}
    for setting in wanted:
        cloudwatch.put_metric_alarm(
            **an_alarm(
                f"{name}-{setting}",
                Namespace="Nobody",
                MetricName="Knows",
                Statistic=None,
                ExtendedStatistic="p99",
                Period=10,
                TreatMissingData=setting,
            )
        )

    def states() -> dict[str, str]:
        found = cloudwatch.describe_alarms(AlarmNamePrefix=name)["MetricAlarms"]
        return {alarm["TreatMissingData"]: alarm["StateValue"] for alarm in found}

    wait_for(lambda: states() == wanted, timeout_s=20, what="all of them to be judged")
    now = datetime.now(UTC)
    period = {"StartTime": now - timedelta(minutes=10), "EndTime": now}
    metric = {"Namespace": "Nobody", "MetricName": "Knows"}
    points = cloudwatch.get_metric_statistics(
        **metric, **period, Period=60, ExtendedStatistics=["p99"]
    )
    assert points["Datapoints"] == []
    query = {"Id": "m", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "p99"}}
    (result,) = cloudwatch.get_metric_data(MetricDataQueries=[query], **period)["MetricDataResults"]
    assert (result["Values"], result["StatusCode"]) == ([], "Complete")
    cloudwatch.delete_alarms(AlarmNames=[f"{name}-{setting}" for setting in wanted])


def test_composite_alarms_follow_their_children(any_cloudwatch: Any, name: str) -> None:
    child, quiet, top = f"{name}-child", f"{name}-quiet", f"{name}-top"
    for each in (child, quiet):
        any_cloudwatch.put_metric_alarm(**an_alarm(each, TreatMissingData="ignore"))
    any_cloudwatch.put_composite_alarm(
        AlarmName=top,
        AlarmRule=f'ALARM("{child}") AND NOT ALARM({ARN}{quiet})',
        ActionsSuppressor=quiet,
        ActionsSuppressorWaitPeriod=1,
        ActionsSuppressorExtensionPeriod=1,
        AlarmActions=[TOPIC],
    )
    any_cloudwatch.get_waiter("composite_alarm_exists").wait(
        AlarmNames=[top], AlarmTypes=["CompositeAlarm"]
    )

    def composite() -> dict[str, Any]:
        reply = any_cloudwatch.describe_alarms(AlarmNames=[top], AlarmTypes=["CompositeAlarm"])
        assert reply["MetricAlarms"] == []
        (alarm,) = reply["CompositeAlarms"]
        return dict(alarm)

    wait_for(lambda: composite()["StateValue"] == "OK", what="the first evaluation")
    any_cloudwatch.set_alarm_state(AlarmName=child, StateValue="ALARM", StateReason="a test")
    wait_for(lambda: composite()["StateValue"] == "ALARM", what="the parent")
    assert composite()["StateReason"].startswith(f"{ARN}{child} transitioned to ALARM at ")

    both = ["CompositeAlarm", "MetricAlarm"]
    reply = any_cloudwatch.describe_alarms(ParentsOfAlarmName=child)
    assert [alarm["AlarmName"] for alarm in reply["CompositeAlarms"]] == [top]
    reply = any_cloudwatch.describe_alarms(ChildrenOfAlarmName=top)
    assert [alarm["AlarmName"] for alarm in reply["MetricAlarms"]] == [child, quiet]
    code, message = refusal(lambda: any_cloudwatch.delete_alarms(AlarmNames=[child]))
    assert (code, "depending on it" in message) == ("ValidationError", True)
    any_cloudwatch.delete_alarms(AlarmNames=[child, quiet, top])
    reply = any_cloudwatch.describe_alarms(AlarmNamePrefix=name, AlarmTypes=both)
    assert reply["MetricAlarms"] == reply["CompositeAlarms"] == []
    assert any_cloudwatch.describe_alarm_history(AlarmName=top)["AlarmHistoryItems"]


def test_lists_go_page_by_page(any_cloudwatch: Any, name: str) -> None:
    names = [f"{name}-{number}" for number in range(5)]
    for each in names:
        any_cloudwatch.put_metric_alarm(**an_alarm(each, OKActions=[TOPIC]))

    def collect(**filters: Any) -> list[str]:
        pages = any_cloudwatch.get_paginator("describe_alarms").paginate(
            **filters, PaginationConfig={"PageSize": 2}
        )
        return [alarm["AlarmName"] for page in pages for alarm in page["MetricAlarms"]]

    assert collect(AlarmNamePrefix=name) == names
    assert collect(AlarmNames=names[1:3]) == names[1:3]
    assert set(names) <= set(collect(ActionPrefix="arn:aws:sns"))
    any_cloudwatch.set_alarm_state(AlarmName=names[2], StateValue="ALARM", StateReason="a test")
    assert names[2] in collect(StateValue="ALARM")

    any_cloudwatch.disable_alarm_actions(AlarmNames=names)
    assert described(any_cloudwatch, names[0])["ActionsEnabled"] is False
    any_cloudwatch.enable_alarm_actions(AlarmNames=names)
    assert described(any_cloudwatch, names[0])["ActionsEnabled"] is True

    pages = any_cloudwatch.get_paginator("describe_alarm_history").paginate(
        AlarmName=names[0], PaginationConfig={"PageSize": 1}
    )
    items = [item["HistorySummary"] for page in pages for item in page["AlarmHistoryItems"]]
    assert len([item for item in items if item.endswith("updated")]) == 2
    recent = any_cloudwatch.describe_alarm_history(
        AlarmName=names[0],
        HistoryItemType="ConfigurationUpdate",
        StartDate=datetime.now(UTC) - timedelta(minutes=5),
        EndDate=datetime.now(UTC) + timedelta(minutes=5),
    )
    assert len(recent["AlarmHistoryItems"]) == 3


def test_alarms_are_found_by_their_metric(any_cloudwatch: Any, name: str) -> None:
    any_cloudwatch.put_metric_alarm(**an_alarm(name))
    any_cloudwatch.put_metric_alarm(
        **an_alarm(
            name + "-p99", AlarmName=name + "-p99", Statistic=None, ExtendedStatistic="p99",
            Dimensions=[{"Name": "EndpointName", "Value": name}],
        )
    )  # fmt: skip
    metric = {
        "Namespace": "AWS/SageMaker",
        "MetricName": "ModelLatency",
        "Dimensions": [{"Name": "EndpointName", "Value": name}],
    }

    def found(**more: Any) -> list[str]:
        reply = any_cloudwatch.describe_alarms_for_metric(**metric, **more)
        return [alarm["AlarmName"] for alarm in reply["MetricAlarms"]]

    assert found() == [name, name + "-p99"]
    assert found(Statistic="Average") == [name]
    assert found(ExtendedStatistic="p99", Period=60) == [name + "-p99"]
    assert found(Period=10) == []


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"Period": 7}, "Period must be 10, 20, 30 or a multiple of 60"),
        ({"Period": None}, "Period is required"),
        ({"Threshold": None}, "Threshold is required"),
        ({"MetricName": None}, "MetricName is required"),
        ({"EvaluationPeriods": 2, "DatapointsToAlarm": 3}, "DatapointsToAlarm"),
        ({"EvaluationPeriods": 1441}, "more than a day"),
        ({"Period": 3600, "EvaluationPeriods": 169}, "more than seven days"),
        ({"TreatMissingData": "sometimes"}, "sometimes is not supported"),
        ({"ExtendedStatistic": "p99"}, "mutually exclusive"),
        ({"Statistic": None}, "Either Statistic or ExtendedStatistic"),
        ({"Statistic": None, "ExtendedStatistic": "p101"}, "not a valid statistic"),
        ({"EvaluateLowSampleCountPercentile": "ignore"}, "percentile"),
        ({"AlarmActions": ["oncall"]}, "Invalid arn syntax: oncall"),
        ({"ComparisonOperator": "GreaterThanUpperThreshold"}, "anomaly detection"),
        ({"Dimensions": [{"Name": "a", "Value": "1"}, {"Name": "a", "Value": "2"}]}, "unique"),
        ({"Metrics": [{"Id": "a", "Expression": "1"}]}, "mutually exclusive"),
        ({"AlarmName": "bell\a"}, "control characters"),
        ({"WarmUpConfiguration": {"WarmUpPeriodDurationInMinutes": 5}}, "not built"),
    ],
)
def test_alarms_that_could_not_be_judged_are_refused(
    cloudwatch: Any, name: str, members: dict[str, Any], text: str
) -> None:
    code, message = refusal(lambda: cloudwatch.put_metric_alarm(**an_alarm(name, **members)))
    assert code == "ValidationError"
    assert text in message


@pytest.mark.parametrize(
    ("queries", "text"),
    [
        ([("a", "b + 1", True), ("b", "a + 1", False)], "refers to itself"),
        ([("a", "m1 + 1", True)], "which is no query"),
        ([("a", "m +", True), ("m", None, False)], "Unexpected"),
        ([("a", "m + 1", True), ("m", None, True)], "Exactly one element"),
        ([("a", "m + 1", False), ("m", None, False)], "Exactly one element"),
        ([("a", "TIME_SERIES(1)", True)], "at least one metric"),
        ([("m", None, True), ("m", None, False)], "not unique"),
    ],
)
def test_expressions_that_cannot_be_are_refused(
    cloudwatch: Any, name: str, queries: list[tuple[str, str | None, bool]], text: str
) -> None:
    stat = {"Metric": {"Namespace": "N", "MetricName": "m"}, "Period": 60, "Stat": "Sum"}
    code, message = refusal(
        lambda: cloudwatch.put_metric_alarm(
            AlarmName=name,
            Metrics=[
                {
                    "Id": id,
                    "ReturnData": returned,
                    **({"Expression": expression} if expression else {"MetricStat": stat}),
                }
                for id, expression, returned in queries
            ],
            EvaluationPeriods=1,
            Threshold=1.0,
            ComparisonOperator="GreaterThanThreshold",
        )
    )
    assert code == "ValidationError"
    assert text in message


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("ALARM(nobody-has-this-name)", "do not exist"),
        ("ALARM(", "Invalid AlarmRule"),
        ("TRUE AND", "Invalid AlarmRule"),
        ("ALARM({name})", "refers to itself"),
    ],
)
def test_rules_that_cannot_be_are_refused(cloudwatch: Any, name: str, rule: str, text: str) -> None:
    rule = rule.replace("{name}", name)
    code, message = refusal(lambda: cloudwatch.put_composite_alarm(AlarmName=name, AlarmRule=rule))
    assert code == "ValidationError"
    assert text in message


def test_circles_and_contradictions_are_refused(cloudwatch: Any, name: str) -> None:
    a, b = f"{name}-a", f"{name}-b"
    cloudwatch.put_composite_alarm(AlarmName=a, AlarmRule="FALSE")
    cloudwatch.put_composite_alarm(AlarmName=b, AlarmRule=f"ALARM({a})")
    refusals = [
        lambda: cloudwatch.put_composite_alarm(AlarmName=a, AlarmRule=f"NOT ALARM({b})"),
        lambda: cloudwatch.put_metric_alarm(**an_alarm(a)),
        lambda: cloudwatch.put_composite_alarm(
            AlarmName=a, AlarmRule="TRUE", ActionsSuppressorWaitPeriod=5
        ),
        lambda: cloudwatch.put_composite_alarm(AlarmName=a, AlarmRule="TRUE", ActionsSuppressor=b),
        lambda: cloudwatch.describe_alarms(AlarmNames=[a], AlarmNamePrefix="x"),
        lambda: cloudwatch.describe_alarms(ChildrenOfAlarmName=b, StateValue="OK"),
    ]
    assert {refusal(call)[0] for call in refusals} == {"ValidationError"}


def test_what_is_not_there_is_not_found(any_cloudwatch: Any, name: str) -> None:
    code, message = refusal(
        lambda: any_cloudwatch.set_alarm_state(
            AlarmName=name, StateValue="OK", StateReason="a test"
        )
    )
    assert (code, name in message) == ("ResourceNotFound", True)
    assert refusal(lambda: any_cloudwatch.delete_alarms(AlarmNames=[name]))[0] == "ResourceNotFound"
    any_cloudwatch.put_metric_alarm(**an_alarm(name))
    code, _ = refusal(
        lambda: any_cloudwatch.set_alarm_state(
            AlarmName=name, StateValue="OK", StateReason="a test", StateReasonData="{"
        )
    )
    assert code == "InvalidFormat"
    code, _ = refusal(lambda: any_cloudwatch.describe_alarms(NextToken="nonsense"))
    assert code == "InvalidNextToken"


def test_states_outlive_control_and_no_action_is_repeated(tmp_path: Any, name: str) -> None:
    with Server(tmp_path) as server:
        # Requests wait for control for a while; on a busy machine it may take longer.
        client = server.client("cloudwatch", retries={"total_max_attempts": 8})
        client.put_metric_alarm(**an_alarm(name, AlarmActions=[TOPIC], TreatMissingData="ignore"))
        client.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a test")

        def actions() -> list[Any]:
            return list(
                client.describe_alarm_history(AlarmName=name, HistoryItemType="Action")[
                    "AlarmHistoryItems"
                ]
            )

        wait_for(lambda: len(actions()) == 1, what="the action")
        (pid,) = server.pids("clary-control")
        os.kill(pid, signal.SIGKILL)
        assert described(client, name)["StateValue"] == "ALARM"
        other = f"{name}-later"
        client.put_metric_alarm(**an_alarm(other, TreatMissingData="notBreaching"))
        wait_for(
            lambda: described(client, other)["StateValue"] == "OK",
            what="alarms to be judged again",
        )
        assert len(actions()) == 1
