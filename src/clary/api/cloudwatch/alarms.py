"""Alarms: PutMetricAlarm, PutCompositeAlarm, DeleteAlarms, SetAlarmState, and switching actions."""

import json

from clary.api.cloudwatch.alarm_requests import check_composite_alarm, check_metric_alarm
from clary.api.cloudwatch.refusals import InvalidFormat
from clary.api.operations import Call, Reply, Request, operation
from clary.api.sagemaker.definitions import definition_of, parse_tags
from clary.resources.alarm import AlarmType, AlarmValue, metric_id


@operation("cloudwatch", "PutMetricAlarm")
async def put_metric_alarm(call: Call, request: Request) -> Reply:
    check_metric_alarm(request)
    definition = definition_of(request, "AlarmName")
    definition["Threshold"] = float(request["Threshold"])
    watched = None
    if "MetricName" in definition:
        dimensions = definition.get("Dimensions", ())
        watched = metric_id(definition["Namespace"], definition["MetricName"], dimensions)
    await call.store.alarms.put(
        request["AlarmName"],
        AlarmType.METRIC,
        definition,
        metric_id=watched,
        tags=parse_tags(request),
    )
    return {}


@operation("cloudwatch", "PutCompositeAlarm")
async def put_composite_alarm(call: Call, request: Request) -> Reply:
    watched = check_composite_alarm(request)
    await call.store.alarms.put(
        request["AlarmName"],
        AlarmType.COMPOSITE,
        definition_of(request, "AlarmName"),
        children=watched,
        tags=parse_tags(request),
    )
    return {}


@operation("cloudwatch", "DeleteAlarms")
async def delete_alarms(call: Call, request: Request) -> Reply:
    await call.store.alarms.delete(request["AlarmNames"])
    return {}


@operation("cloudwatch", "SetAlarmState")
async def set_alarm_state(call: Call, request: Request) -> Reply:
    reason_data = request.get("StateReasonData")
    if reason_data:
        try:
            json.loads(reason_data)
        except (ValueError, RecursionError) as error:
            raise InvalidFormat("StateReasonData was not syntactically valid JSON") from error
    await call.store.alarms.set_state(
        request["AlarmName"],
        AlarmValue(request["StateValue"]),
        request["StateReason"],
        reason_data or None,
    )
    return {}


@operation("cloudwatch", "EnableAlarmActions")
async def enable_alarm_actions(call: Call, request: Request) -> Reply:
    await call.store.alarms.set_actions_enabled(request["AlarmNames"], enabled=True)
    return {}


@operation("cloudwatch", "DisableAlarmActions")
async def disable_alarm_actions(call: Call, request: Request) -> Reply:
    await call.store.alarms.set_actions_enabled(request["AlarmNames"], enabled=False)
    return {}
