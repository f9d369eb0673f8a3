import json
from datetime import UTC, datetime, timedelta

import pytest

from builders import A_TIME, an_alarm
from clary.control.alarm_reason import (
    Evaluation,
    composite_reason,
    composite_reason_data,
    metric_reason,
    metric_reason_data,
)
from clary.control.alarm_rule import AlarmRule, MissingData, Points, judge
from clary.resources.alarm import AlarmState, AlarmValue

START = datetime(2019, 10, 2, 16, 50, tzinfo=UTC)


def an_evaluation(points: Points, datapoints: int = 3, missing: str = "missing") -> Evaluation:
    rule = AlarmRule(
        comparison="GreaterThanThreshold",
        threshold=50.0,
        periods=3,
        datapoints=datapoints,
        missing=MissingData(missing),
    )
    return Evaluation(
        rule=rule,
        points=points,
        start=START,
        period_s=60,
        verdict=judge(rule, points, AlarmValue.OK),
        at=START + timedelta(minutes=5, seconds=2, milliseconds=7),
        statistic="Average",
    )


@pytest.mark.parametrize(
    ("evaluation", "text"),
    [
        (
            an_evaluation([1.0, 1.0, 60.0, 70.0, 99.5]),
            "Threshold Crossed: 3 out of the last 3 datapoints [99.5 (02/10/19 16:54:00), 70.0 "
            "(02/10/19 16:53:00), 60.0 (02/10/19 16:52:00)] were greater than the threshold (50.0) "
            "(minimum 3 datapoints for OK -> ALARM transition).",
        ),
        (
            an_evaluation([1.0, 1.0, 60.0, 70.0, 0.5]),
            "Threshold Crossed: 1 out of the last 3 datapoints [0.5 (02/10/19 16:54:00)] was not "
            "greater than the threshold (50.0) (minimum 1 datapoint for ALARM -> OK transition).",
        ),
        (
            an_evaluation([1.0, 1.0, 60.0, 0.0, 0.5], datapoints=2),
            "Threshold Crossed: 2 out of the last 3 datapoints [0.5 (02/10/19 16:54:00), 0.0 "
            "(02/10/19 16:53:00)] were not greater than the threshold (50.0) (minimum 2 datapoints "
            "for ALARM -> OK transition).",
        ),
        (an_evaluation([None] * 5), "Insufficient Data: 3 datapoints were unknown."),
        (
            an_evaluation([None] * 5, missing="breaching"),
            "Threshold Crossed: no datapoints were received for 3 periods and 3 missing datapoints "
            "were treated as [Breaching].",
        ),
        (
            an_evaluation([None, None, None, None, 60.0], missing="notBreaching"),
            "Threshold Crossed: 1 datapoint was received for 3 periods and 2 missing datapoints "
            "were treated as [NonBreaching].",
        ),
    ],
)
def test_reasons_are_in_the_words_of_cloudwatch(evaluation: Evaluation, text: str) -> None:
    assert metric_reason(evaluation) == text


def test_the_data_names_what_was_read_newest_first() -> None:
    data = json.loads(metric_reason_data(an_evaluation([None, 1.0, 60.0, None, 99.5])))
    assert data == {
        "version": "1.0",
        "queryDate": "2019-10-02T16:55:02.007+0000",
        "startDate": "2019-10-02T16:51:00.000+0000",
        "statistic": "Average",
        "period": 60,
        "recentDatapoints": [1.0, 60.0, 99.5],
        "threshold": 50.0,
        "evaluatedDatapoints": [
            {"timestamp": "2019-10-02T16:54:00.000+0000", "value": 99.5},
            {"timestamp": "2019-10-02T16:53:00.000+0000"},
            {"timestamp": "2019-10-02T16:52:00.000+0000", "value": 60.0},
            {"timestamp": "2019-10-02T16:51:00.000+0000", "value": 1.0},
        ],
    }


def test_data_stays_within_what_a_reply_can_hold() -> None:
    points = [float(n) + 0.123456789 for n in range(1442)]
    rule = AlarmRule(comparison="LessThanThreshold", threshold=1e9, periods=1440, datapoints=1440)
    evaluation = Evaluation(
        rule=rule,
        points=points,
        start=START,
        period_s=60,
        verdict=judge(rule, points, AlarmValue.OK),
        at=START,
        statistic="Sum",
    )
    assert len(metric_reason_data(evaluation)) <= 4000
    assert len(metric_reason(evaluation)) <= 1023


def test_a_composite_alarm_names_the_one_that_made_the_difference() -> None:
    alarm = an_alarm("all")
    child = AlarmState(
        value=AlarmValue.ALARM,
        reason="",
        updated_at=A_TIME,
        transitioned_at=datetime(2022, 7, 22, 15, 57, 45, 394_000, UTC),
    )
    assert composite_reason(alarm, AlarmValue.ALARM, ("arn:one", child)) == (
        "arn:one transitioned to ALARM at Friday 22 July, 2022 15:57:45 UTC"
    )
    assert composite_reason(alarm, AlarmValue.OK, None) == (
        f"{alarm.arn} was created and its alarm rule evaluates to OK"
    )
    assert json.loads(composite_reason_data([("arn:one", child)])) == {
        "triggeringAlarms": [
            {
                "arn": "arn:one",
                "state": {"value": "ALARM", "timestamp": "2022-07-22T15:57:45.394+0000"},
            }
        ]
    }
    assert len(composite_reason_data([("arn:one" * 100, child)] * 100)) <= 4000
