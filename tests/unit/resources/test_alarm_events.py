import json
from dataclasses import replace
from typing import Any

import pytest

from builders import A_TIME, NAMESPACE, an_alarm
from clary.resources.alarm import (
    AlarmState,
    AlarmType,
    AlarmValue,
    Suppression,
    Transition,
    Withheld,
    alarm_name,
    metric_id,
)
from clary.resources.alarm_events import notification, state_change_event
from clary.resources.alarm_history import MAX_DATA, acted, changed_state, configured

TOPIC = "arn:aws:sns:us-east-1:123456789012:oncall"
ON = AlarmState(
    value=AlarmValue.ALARM,
    reason="Threshold Crossed",
    reason_data='{"version":"1.0"}',
    updated_at=A_TIME,
    transitioned_at=A_TIME,
)


def a_transition(**fields: Any) -> Transition:
    before = an_alarm("Too Slow", **fields)
    return Transition(alarm=replace(before, state=ON), old=before.state)


def test_an_event_has_the_shape_of_eventbridge() -> None:
    event = state_change_event(a_transition(), NAMESPACE)
    detail = event.pop("detail")
    assert event.pop("id")
    assert event == {
        "version": "0",
        "detail-type": "CloudWatch Alarm State Change",
        "source": "aws.cloudwatch",
        "account": "123456789012",
        "time": "2026-01-02T03:04:05Z",
        "region": "us-east-1",
        "resources": ["arn:aws:cloudwatch:us-east-1:123456789012:alarm:Too Slow"],
    }
    assert detail["state"] == {
        "value": "ALARM",
        "reason": "Threshold Crossed",
        "reasonData": '{"version":"1.0"}',
        "timestamp": "2026-01-02T03:04:05.678+0000",
    }
    assert detail["previousState"]["value"] == "INSUFFICIENT_DATA"
    (metric,) = detail["configuration"]["metrics"]
    assert metric["metricStat"] == {
        "metric": {
            "namespace": "AWS/SageMaker",
            "name": "ModelLatency",
            "dimensions": {"EndpointName": "digits"},
        },
        "period": 60,
        "stat": "Average",
    }
    json.dumps(event)


def test_an_event_of_an_expression_has_its_queries() -> None:
    stat = {"Metric": {"Namespace": "N", "MetricName": "m"}, "Period": 60, "Stat": "Sum"}
    queries = [
        {"Id": "m", "MetricStat": stat, "ReturnData": False},
        {"Id": "e", "Expression": "m * 2", "Label": "twice"},
    ]
    event = state_change_event(a_transition(definition={"Metrics": queries}), NAMESPACE)
    metric, expression = event["detail"]["configuration"]["metrics"]
    assert metric["returnData"] is False
    assert metric["metricStat"]["metric"]["name"] == "m"
    assert expression == {
        "id": "e",
        "returnData": True,
        "expression": "m * 2",
        "label": "twice",
    }


def test_an_event_of_a_composite_alarm_says_what_holds_it_back() -> None:
    withheld = Withheld(announced=AlarmValue.OK, since=A_TIME, by=Suppression.WAIT_PERIOD)
    transition = a_transition(
        type=AlarmType.COMPOSITE,
        definition={
            "AlarmRule": "ALARM(a)",
            "ActionsSuppressor": "b",
            "ActionsSuppressorExtensionPeriod": 9,
        },
        withheld=withheld,
    )
    detail = state_change_event(transition, NAMESPACE)["detail"]
    assert detail["configuration"]["alarmRule"] == "ALARM(a)"
    assert detail["configuration"]["actionsSuppressor"] == "b"
    assert detail["configuration"]["actionsSuppressorExtensionPeriod"] == 9
    assert detail["state"]["actionsSuppressedBy"] == "WaitPeriod"
    _, message = notification(transition, NAMESPACE)
    assert message["AlarmRule"] == "ALARM(a)"
    assert "Trigger" not in message


@pytest.mark.parametrize(
    ("definition", "trigger"),
    [
        ({}, {"StatisticType": "Statistic", "Statistic": "AVERAGE", "Period": 60}),
        (
            {"Statistic": None, "ExtendedStatistic": "p99", "TreatMissingData": "ignore"},
            {
                "StatisticType": "ExtendedStatistic",
                "ExtendedStatistic": "p99",
                "TreatMissingData": "ignore",
            },
        ),
        (
            {"Metrics": [{"Id": "e", "Expression": "1"}]},
            {"Metrics": [{"Id": "e", "Expression": "1"}], "Threshold": 50.0},
        ),
    ],
)
def test_a_notification_is_the_message_of_cloudwatch(
    definition: dict[str, Any], trigger: dict[str, Any]
) -> None:
    subject, message = notification(a_transition(definition=definition), NAMESPACE)
    assert subject == 'ALARM: "Too Slow" in US East (N. Virginia)'
    assert (message["OldStateValue"], message["NewStateValue"]) == ("INSUFFICIENT_DATA", "ALARM")
    assert message["StateChangeTime"] == "2026-01-02T03:04:05.678+0000"
    assert trigger.items() <= message["Trigger"].items()


def test_a_history_item_stays_within_what_a_reply_can_hold() -> None:
    alarm = an_alarm(definition={"AlarmDescription": "x" * 5000})
    items = [
        configured(alarm, "Update", A_TIME),
        changed_state(alarm, alarm.state, replace(ON, reason_data=json.dumps("y" * 5000))),
        acted(alarm, TOPIC, A_TIME, A_TIME, "z" * 5000),
    ]
    for item in items:
        assert len(item.data) <= MAX_DATA
        assert len(item.summary) <= 255
        assert json.loads(item.data)


def test_the_history_of_an_action_says_what_became_of_it() -> None:
    done = acted(an_alarm(), TOPIC, A_TIME, A_TIME, None)
    assert done.summary == f"Successfully executed action {TOPIC}"
    assert json.loads(done.data)["actionState"] == "Succeeded"
    failed = acted(an_alarm(), TOPIC, A_TIME, A_TIME, "no such topic")
    assert failed.summary == f'Failed to execute action {TOPIC}. Received error: "no such topic"'
    assert json.loads(failed.data)["error"] == "no such topic"


def test_alarms_are_named_by_name_or_arn() -> None:
    assert alarm_name("arn:aws:cloudwatch:us-east-1:123456789012:alarm:a:b c") == "a:b c"
    assert alarm_name("plain") == "plain"
    assert alarm_name("arn:aws:sns:us-east-1:123456789012:topic").startswith("arn:")


def test_a_metric_is_one_whatever_the_order_of_its_dimensions() -> None:
    one, two = {"Name": "a", "Value": "1"}, {"Name": "b", "Value": "2"}
    assert metric_id("N", "m", [one, two]) == metric_id("N", "m", [two, one])
    assert metric_id("N", "m", [one]) != metric_id("N", "m", [two])
