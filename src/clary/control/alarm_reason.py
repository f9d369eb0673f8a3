"""Why an alarm is what it is, in CloudWatch's words: for people, and as JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from clary.control.alarm_rule import AlarmRule, MissingData, Points, Verdict
from clary.resources.alarm import Alarm, AlarmState, AlarmValue, stamp

MAX_REASON = 1023
MAX_REASON_DATA = 4000
MAX_SHOWN = 5
"""Most data points that a reason lists."""

_PHRASES = {
    "GreaterThanOrEqualToThreshold": "greater than or equal to",
    "GreaterThanThreshold": "greater than",
    "LessThanThreshold": "less than",
    "LessThanOrEqualToThreshold": "less than or equal to",
}

_TREATED_AS = {MissingData.BREACHING: "Breaching", MissingData.NOT_BREACHING: "NonBreaching"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What an alarm was judged by."""

    rule: AlarmRule
    points: Points
    """Oldest first."""

    start: datetime
    """Begin of the first point's period."""

    period_s: int
    verdict: Verdict
    at: datetime
    """When it was judged."""

    statistic: str | None = None
    """None: of an expression."""

    unit: str | None = None

    def time_of(self, index: int) -> datetime:
        """Return when the period of a point begins."""
        return self.start + timedelta(seconds=self.period_s * index)


def metric_reason(evaluation: Evaluation) -> str:
    """Return the ``StateReason`` of a metric alarm."""
    verdict, rule = evaluation.verdict, evaluation.rule
    if verdict.value is AlarmValue.INSUFFICIENT_DATA:
        return f"Insufficient Data: {_counted(rule.periods)} {_be(rule.periods)} unknown."
    if verdict.filled:
        received = len(verdict.evaluated)
        return (
            f"Threshold Crossed: {'no datapoints' if not received else _counted(received)} "
            f"{_be(received)} received for {_counted(rule.periods, 'period')} and "
            f"{_counted(verdict.filled, 'missing datapoint')} {_be(verdict.filled)} treated as "
            f"[{_TREATED_AS[rule.missing]}]."
        )
    is_on = verdict.value is AlarmValue.ALARM
    values = {i: evaluation.points[i] for i in verdict.evaluated}
    decisive = [
        index
        for index, value in values.items()
        if value is not None and rule.is_breaching(value) is is_on
    ]
    shown = ", ".join(
        f"{values[index]} ({evaluation.time_of(index):%d/%m/%y %H:%M:%S})"
        for index in reversed(decisive[-MAX_SHOWN:])
    )
    needed = rule.datapoints if is_on else rule.periods - rule.datapoints + 1
    way = "OK -> ALARM" if is_on else "ALARM -> OK"
    reason = (
        f"Threshold Crossed: {len(decisive)} out of the last {rule.periods} datapoints [{shown}] "
        f"{_be(len(decisive))} {'' if is_on else 'not '}{_PHRASES[rule.comparison]} the threshold "
        f"({rule.threshold}) (minimum {_counted(needed)} for {way} transition)."
    )
    return reason[:MAX_REASON]


def metric_reason_data(evaluation: Evaluation) -> str:
    """Return the ``StateReasonData`` of a metric alarm."""
    used = evaluation.verdict.evaluated
    first = used[0] if used else max(len(evaluation.points) - evaluation.rule.periods, 0)
    evaluated: list[dict[str, Any]] = []
    for index in range(len(evaluation.points) - 1, first - 1, -1):
        value = evaluation.points[index]
        described: dict[str, Any] = {"timestamp": stamp(evaluation.time_of(index))}
        evaluated.append(described if value is None else {**described, "value": value})
    data: dict[str, Any] = {
        "version": "1.0",
        "queryDate": stamp(evaluation.at),
        "startDate": stamp(evaluation.time_of(first)),
        **({} if evaluation.statistic is None else {"statistic": evaluation.statistic}),
        **({} if evaluation.unit is None else {"unit": evaluation.unit}),
        "period": evaluation.period_s,
        "recentDatapoints": [evaluation.points[index] for index in used],
        "threshold": evaluation.rule.threshold,
        "evaluatedDatapoints": evaluated,
    }
    text = _compact(data)
    if len(text) > MAX_REASON_DATA:
        text = _compact({**data, "recentDatapoints": [], "evaluatedDatapoints": evaluated[:5]})
    return text


def composite_reason(
    alarm: Alarm, value: AlarmValue, trigger: tuple[str, AlarmState] | None
) -> str:
    """Return the ``StateReason`` of a composite alarm.

    Args:
        alarm: The alarm, as it was.
        value: What its rule says.
        trigger: ARN and state of the alarm whose change made the difference; None: it is new, or
            its rule was changed.
    """
    if trigger is None:
        done = "created" if alarm.revision == 1 else "updated"
        return f"{alarm.arn} was {done} and its alarm rule evaluates to {value}"[:MAX_REASON]
    arn, state = trigger
    moment = state.transitioned_at.astimezone(UTC)
    return f"{arn} transitioned to {state.value} at {moment:%A %d %B, %Y %H:%M:%S} UTC"[:MAX_REASON]


def composite_reason_data(children: Sequence[tuple[str, AlarmState]]) -> str:
    """Return the ``StateReasonData`` of a composite alarm.

    Args:
        children: ARN and state of the alarms that made the difference.
    """
    described: Sequence[Mapping[str, Any]] = [
        {
            "arn": arn,
            "state": {"value": state.value, "timestamp": stamp(state.transitioned_at)},
        }
        for arn, state in children
    ]
    text = _compact({"triggeringAlarms": described})
    while len(text) > MAX_REASON_DATA:
        described = described[: len(described) // 2]
        text = _compact({"triggeringAlarms": described})
    return text


def _counted(number: int, noun: str = "datapoint") -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _be(number: int) -> str:
    return "was" if number == 1 else "were"


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
