"""What stands in the history of an alarm: items with a summary for people and data for programs.

Summaries and the members of the data are AWS's; the data is JSON of at most 4095 characters.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clary.resources.alarm import Alarm, AlarmState, AlarmType, stamp

MAX_DATA = 4095
MAX_SUMMARY = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryItem:
    """One line of a history."""

    alarm_name: str
    alarm_type: AlarmType
    at: datetime
    item_type: str
    """``ConfigurationUpdate``, ``StateUpdate`` or ``Action``."""

    summary: str
    data: str


def configured(alarm: Alarm, verb: str, at: datetime) -> HistoryItem:
    """Return the item for an alarm that was put or deleted.

    Args:
        alarm: As it is now, or was last.
        verb: ``Create``, ``Update`` or ``Delete``.
        at: When.
    """
    done = {"Create": "created", "Update": "updated", "Delete": "deleted"}[verb]
    summary = f'Alarm "{alarm.name}" {done}'
    described = {
        "alarmName": alarm.name,
        "alarmArn": alarm.arn,
        **{_lower_first(name): value for name, value in alarm.definition.items()},
        "stateValue": alarm.state.value,
        "stateUpdatedTimestamp": stamp(alarm.state.updated_at),
        "alarmConfigurationUpdatedTimestamp": stamp(alarm.configured_at),
    }
    data = {"version": "1.0", "type": verb, f"{done}Alarm": described}
    short = {"version": "1.0", "type": verb, f"{done}Alarm": {"alarmName": alarm.name}}
    return _item(alarm, at, "ConfigurationUpdate", summary, data, short)


def changed_state(alarm: Alarm, old: AlarmState, new: AlarmState) -> HistoryItem:
    """Return the item for an alarm that came into another state."""
    data = {
        "version": "1.0",
        "oldState": _state(old, with_data=True),
        "newState": _state(new, with_data=True),
    }
    short = {
        "version": "1.0",
        "oldState": _state(old, with_data=False),
        "newState": _state(new, with_data=False),
    }
    summary = f"Alarm updated from {old.value} to {new.value}"
    return _item(alarm, new.updated_at, "StateUpdate", summary, data, short)


def acted(
    alarm: Alarm, action: str, transitioned_at: datetime, at: datetime, error: str | None
) -> HistoryItem:
    """Return the item for an action.

    Args:
        alarm: Whose action.
        action: Its ARN.
        transitioned_at: When the alarm came into the state that it was carried out for.
        at: When it was carried out.
        error: Why it failed; None: it succeeded.
    """
    data = {
        "actionState": "Succeeded" if error is None else "Failed",
        "stateUpdateTimestamp": round(transitioned_at.timestamp() * 1000),
        "notificationResource": action,
        **({} if error is None else {"error": error[:1024]}),
    }
    summary = (
        f"Successfully executed action {action}"
        if error is None
        else f'Failed to execute action {action}. Received error: "{error}"'
    )
    return _item(alarm, at, "Action", summary, data, data)


def _item(
    alarm: Alarm,
    at: datetime,
    item_type: str,
    summary: str,
    data: Mapping[str, Any],
    short: Mapping[str, Any],
) -> HistoryItem:
    text = json.dumps(data, separators=(",", ":"))
    if len(text) > MAX_DATA:
        text = json.dumps(short, separators=(",", ":"))
    return HistoryItem(
        alarm_name=alarm.name,
        alarm_type=alarm.type,
        at=at,
        item_type=item_type,
        summary=summary[:MAX_SUMMARY],
        data=text,
    )


def _state(state: AlarmState, *, with_data: bool) -> dict[str, Any]:
    described: dict[str, Any] = {"stateValue": state.value, "stateReason": state.reason[:1023]}
    if with_data and state.reason_data is not None:
        try:
            described["stateReasonData"] = json.loads(state.reason_data)
        except ValueError:  # of SetAlarmState, which takes any text
            described["stateReasonData"] = state.reason_data
    return described


def _lower_first(name: str) -> str:
    return name[:1].lower() + name[1:]
