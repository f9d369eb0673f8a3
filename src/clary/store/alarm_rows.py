"""Rows of the table of alarms, and alarms."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from clary.errors import NotFound
from clary.resources.alarm import (
    Alarm,
    AlarmState,
    AlarmType,
    AlarmValue,
    Suppression,
    Withheld,
    alarm_arn,
)
from clary.resources.names import Namespace
from clary.store.schema import alarms


def select(
    connection: Connection, namespace: Namespace, *conditions: sa.ColumnElement[bool]
) -> list[Alarm]:
    """Return alarms by name."""
    rows = connection.execute(sa.select(alarms).where(*conditions).order_by(alarms.c.name))
    return [to_alarm(namespace, row) for row in rows]


def find(connection: Connection, namespace: Namespace, name: str) -> Alarm | None:
    """Return the alarm of exactly this name, or None."""
    found = select(connection, namespace, alarms.c.name == name)
    return found[0] if found else None


def get(connection: Connection, namespace: Namespace, name: str) -> Alarm:
    """Return the alarm of exactly this name.

    Raises:
        NotFound: There is none.
    """
    alarm = find(connection, namespace, name)
    if alarm is None:
        raise NotFound(f"Unable to find an alarm with the name {name}")
    return alarm


def state_values(state: AlarmState) -> dict[str, Any]:
    """Return a state as columns."""
    return {
        "state_value": state.value.value,
        "state_reason": state.reason,
        "state_reason_data": state.reason_data,
        "state_updated_at": state.updated_at,
        "state_transitioned_at": state.transitioned_at,
    }


def dump_withheld(withheld: Withheld) -> dict[str, str]:
    """Return what is held back as JSON types."""
    return {
        "announced": withheld.announced.value,
        "since": withheld.since.isoformat(),
        "by": withheld.by.value,
    }


def to_alarm(namespace: Namespace, row: Row[Any]) -> Alarm:
    """Return the alarm of a row."""
    held = row.withheld
    return Alarm(
        name=row.name,
        arn=alarm_arn(namespace, row.name),
        type=AlarmType(row.type),
        definition=row.definition,
        revision=row.revision,
        configured_at=row.configured_at,
        state=AlarmState(
            value=AlarmValue(row.state_value),
            reason=row.state_reason,
            reason_data=row.state_reason_data,
            updated_at=row.state_updated_at,
            transitioned_at=row.state_transitioned_at,
        ),
        withheld=None
        if held is None
        else Withheld(
            announced=AlarmValue(held["announced"]),
            since=datetime.fromisoformat(held["since"]),
            by=Suppression(held["by"]),
        ),
    )
