"""Reading alarms: DescribeAlarms, DescribeAlarmsForMetric, DescribeAlarmHistory."""

from typing import Any

from clary.api.cloudwatch.pages import make_token, read_token
from clary.api.cloudwatch.refusals import InvalidCombination, InvalidToken
from clary.api.operations import Call, Reply, Request, operation
from clary.resources.alarm import Alarm, AlarmType, AlarmValue, metric_id
from clary.resources.alarm_history import HistoryItem
from clary.store.alarm_filter import AlarmFilter
from clary.store.alarm_history import HistoryQuery

DEFAULT_ALARMS = 50
DEFAULT_HISTORY = 100
_BUILT_TYPES = {kind.value for kind in AlarmType}


@operation("cloudwatch", "DescribeAlarms")
async def describe_alarms(call: Call, request: Request) -> Reply:
    _check_filters(request)
    kinship = "ChildrenOfAlarmName" in request or "ParentsOfAlarmName" in request
    wanted = AlarmFilter(
        names=tuple(request.get("AlarmNames", ())),
        name_prefix=request.get("AlarmNamePrefix"),
        types=tuple(AlarmType) if kinship else _types(request),
        value=AlarmValue(request["StateValue"]) if "StateValue" in request else None,
        action_prefix=request.get("ActionPrefix"),
        children_of=request.get("ChildrenOfAlarmName"),
        parents_of=request.get("ParentsOfAlarmName"),
        limit=request.get("MaxRecords", DEFAULT_ALARMS),
        after=_name_in(request.get("NextToken")),
    )
    page = await call.store.alarms.describe(wanted)
    reply: dict[str, Any] = {"MetricAlarms": [], "CompositeAlarms": []}
    for alarm in page.items:
        member = "MetricAlarms" if alarm.type is AlarmType.METRIC else "CompositeAlarms"
        reply[member].append(serialize_alarm(alarm))
    if page.next is not None:
        reply["NextToken"] = make_token(page.next[1])
    return reply


@operation("cloudwatch", "DescribeAlarmsForMetric")
async def describe_alarms_for_metric(call: Call, request: Request) -> Reply:
    watched = metric_id(request["Namespace"], request["MetricName"], request.get("Dimensions", ()))
    page = await call.store.alarms.describe(AlarmFilter(metric_id=watched, limit=1_000_000))
    found = [
        serialize_alarm(alarm)
        for alarm in page.items
        if all(
            alarm.definition.get(name) == request[name]
            for name in ("Statistic", "ExtendedStatistic", "Period", "Unit")
            if name in request
        )
    ]
    return {"MetricAlarms": found}


@operation("cloudwatch", "DescribeAlarmHistory")
async def describe_alarm_history(call: Call, request: Request) -> Reply:
    page = await call.store.alarms.history.list(
        HistoryQuery(
            alarm_name=request.get("AlarmName"),
            # Who names an alarm wants its history, whatever type it is of.
            types=_types(request) if "AlarmName" not in request else tuple(AlarmType),
            item_type=request.get("HistoryItemType"),
            start=request.get("StartDate"),
            end=request.get("EndDate"),
            descending=request.get("ScanBy", "TimestampDescending") == "TimestampDescending",
            limit=request.get("MaxRecords", DEFAULT_HISTORY),
            after=_place_in(request.get("NextToken")),
        )
    )
    reply: dict[str, Any] = {"AlarmHistoryItems": [_serialize_item(item) for item in page.items]}
    if page.next is not None:
        reply["NextToken"] = make_token(list(page.next))
    return reply


def serialize_alarm(alarm: Alarm) -> dict[str, Any]:
    """Return an alarm as DescribeAlarms shows it."""
    shown: dict[str, Any] = {
        "AlarmName": alarm.name,
        "AlarmArn": alarm.arn,
        "AlarmConfigurationUpdatedTimestamp": alarm.configured_at,
        "ActionsEnabled": True,
        "OKActions": [],
        "AlarmActions": [],
        "InsufficientDataActions": [],
        **alarm.definition,
        "StateValue": alarm.state.value.value,
        "StateReason": alarm.state.reason,
        "StateReasonData": alarm.state.reason_data,
        "StateUpdatedTimestamp": alarm.state.updated_at,
        "StateTransitionedTimestamp": alarm.state.transitioned_at,
    }
    if "MetricName" in alarm.definition:
        shown.setdefault("Dimensions", [])
    if alarm.withheld is not None:
        shown["ActionsSuppressedBy"] = alarm.withheld.by.value
        shown["ActionsSuppressedReason"] = f"Actions suppressed by {alarm.withheld.by}"
    return shown


def _serialize_item(item: HistoryItem) -> dict[str, Any]:
    return {
        "AlarmName": item.alarm_name,
        "AlarmType": item.alarm_type.value,
        "Timestamp": item.at,
        "HistoryItemType": item.item_type,
        "HistorySummary": item.summary,
        "HistoryData": item.data,
    }


def _types(request: Request) -> tuple[AlarmType, ...]:
    named = request.get("AlarmTypes") or [AlarmType.METRIC.value]
    return tuple(AlarmType(name) for name in named if name in _BUILT_TYPES)


def _check_filters(request: Request) -> None:
    if request.get("AlarmNames") and "AlarmNamePrefix" in request:
        raise InvalidCombination("AlarmNames and AlarmNamePrefix cannot both be specified")
    for name in ("ChildrenOfAlarmName", "ParentsOfAlarmName"):
        others = set(request) - {name, "MaxRecords", "NextToken"}
        if name in request and others:
            raise InvalidCombination(f"{name} and {min(others)} cannot both be specified")


def _name_in(token: str | None) -> str | None:
    if token is None:
        return None
    name = read_token(token)
    if not isinstance(name, str):
        raise InvalidToken("The token is invalid.")
    return name


def _place_in(token: str | None) -> tuple[int, int] | None:
    if token is None:
        return None
    match read_token(token):
        case [int() as moment, int() as number]:
            return moment, number
        case _:
            raise InvalidToken("The token is invalid.")
