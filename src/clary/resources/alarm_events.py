"""What others are told when an alarm changes its state: an event, and a notification.

The event is EventBridge's "CloudWatch Alarm State Change"; the notification is the message that
CloudWatch publishes to an SNS topic. Both in AWS's shapes, for code that reads them exists.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

from clary.resources.alarm import Alarm, AlarmState, AlarmType, Transition, stamp
from clary.resources.names import Namespace

_REGION_NAMES = {
    "us-east-1": "US East (N. Virginia)",
    "us-east-2": "US East (Ohio)",
    "us-west-1": "US West (N. California)",
    "us-west-2": "US West (Oregon)",
    "eu-central-1": "EU (Frankfurt)",
    "eu-west-1": "EU (Ireland)",
}


def state_change_event(transition: Transition, namespace: Namespace) -> dict[str, Any]:
    """Return the EventBridge event of a transition."""
    alarm = transition.alarm
    detail: dict[str, Any] = {
        "alarmName": alarm.name,
        "state": _event_state(transition.new),
        "previousState": _event_state(transition.old),
        "configuration": _configuration(alarm),
    }
    if alarm.withheld is not None:
        detail["state"]["actionsSuppressedBy"] = alarm.withheld.by
        detail["state"]["actionsSuppressedReason"] = f"Actions suppressed by {alarm.withheld.by}"
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "CloudWatch Alarm State Change",
        "source": "aws.cloudwatch",
        "account": namespace.account,
        "time": f"{transition.new.updated_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "region": namespace.region,
        "resources": [alarm.arn],
        "detail": detail,
    }


def notification(transition: Transition, namespace: Namespace) -> tuple[str, dict[str, Any]]:
    """Return subject and message of a transition, as they go to an SNS topic."""
    alarm, definition = transition.alarm, transition.alarm.definition
    region = _REGION_NAMES.get(namespace.region, namespace.region)
    message: dict[str, Any] = {
        "AlarmName": alarm.name,
        "AlarmDescription": definition.get("AlarmDescription"),
        "AWSAccountId": namespace.account,
        "AlarmConfigurationUpdatedTimestamp": stamp(alarm.configured_at),
        "NewStateValue": transition.new.value,
        "NewStateReason": transition.new.reason,
        "StateChangeTime": stamp(transition.new.transitioned_at),
        "Region": region,
        "AlarmArn": alarm.arn,
        "OldStateValue": transition.old.value,
        "OKActions": list(definition.get("OKActions", ())),
        "AlarmActions": list(definition.get("AlarmActions", ())),
        "InsufficientDataActions": list(definition.get("InsufficientDataActions", ())),
    }
    if alarm.type is AlarmType.COMPOSITE:
        message["AlarmRule"] = definition["AlarmRule"]
        message["NewStateReasonData"] = transition.new.reason_data
    else:
        message["Trigger"] = _trigger(definition)
    return f'{transition.new.value}: "{alarm.name}" in {region}'[:100], message


def _event_state(state: AlarmState) -> dict[str, Any]:
    described = {
        "value": str(state.value),
        "reason": state.reason,
        "timestamp": stamp(state.updated_at),
    }
    if state.reason_data is not None:
        described["reasonData"] = state.reason_data
    return described


def _configuration(alarm: Alarm) -> dict[str, Any]:
    definition = alarm.definition
    described: dict[str, Any] = {}
    if definition.get("AlarmDescription"):
        described["description"] = definition["AlarmDescription"]
    if alarm.type is AlarmType.COMPOSITE:
        described["alarmRule"] = definition["AlarmRule"]
        for name in ("ActionsSuppressor", "ActionsSuppressorWaitPeriod"):
            if name in definition:
                described[name[0].lower() + name[1:]] = definition[name]
        if "ActionsSuppressorExtensionPeriod" in definition:
            extension = definition["ActionsSuppressorExtensionPeriod"]
            described["actionsSuppressorExtensionPeriod"] = extension
    elif "Metrics" in definition:
        described["metrics"] = [_query(query) for query in definition["Metrics"]]
    else:
        described["metrics"] = [
            {
                "id": str(uuid.uuid5(uuid.NAMESPACE_URL, alarm.arn)),
                "metricStat": {
                    "metric": _metric(definition),
                    "period": definition["Period"],
                    "stat": definition.get("Statistic") or definition.get("ExtendedStatistic"),
                },
                "returnData": True,
            }
        ]
    return described


def _query(query: Mapping[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"id": query["Id"], "returnData": query.get("ReturnData", True)}
    for name in ("Expression", "Label", "Period"):
        if name in query:
            described[name.lower()] = query[name]
    if "MetricStat" in query:
        stat = query["MetricStat"]
        described["metricStat"] = {
            "metric": _metric(stat["Metric"]),
            "period": stat["Period"],
            "stat": stat["Stat"],
        }
    return described


def _metric(source: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "namespace": source["Namespace"],
        "name": source["MetricName"],
        "dimensions": {d["Name"]: d["Value"] for d in source.get("Dimensions", ())},
    }


def _trigger(definition: Mapping[str, Any]) -> dict[str, Any]:
    common = {
        "EvaluationPeriods": definition["EvaluationPeriods"],
        "DatapointsToAlarm": definition.get("DatapointsToAlarm", definition["EvaluationPeriods"]),
        "ComparisonOperator": definition["ComparisonOperator"],
        "Threshold": definition["Threshold"],
        "TreatMissingData": definition.get("TreatMissingData", "missing"),
        "EvaluateLowSampleCountPercentile": definition.get("EvaluateLowSampleCountPercentile", ""),
    }
    if "Metrics" in definition:
        return {"Metrics": list(definition["Metrics"]), **common}
    percentile = definition.get("ExtendedStatistic")
    return {
        "MetricName": definition["MetricName"],
        "Namespace": definition["Namespace"],
        "StatisticType": "ExtendedStatistic" if percentile else "Statistic",
        **(
            {"ExtendedStatistic": percentile}
            if percentile
            else {"Statistic": definition["Statistic"].upper()}
        ),
        "Unit": definition.get("Unit"),
        "Dimensions": _lower_dimensions(definition.get("Dimensions", ())),
        "Period": definition["Period"],
        **common,
    }


def _lower_dimensions(dimensions: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    # CloudWatch writes these two members in lower case, value first.
    return [{"value": d["Value"], "name": d["Name"]} for d in dimensions]
