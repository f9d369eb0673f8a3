"""Writes states that alarms came into, with all that follows from a transition.

Many at once: when a machine comes to its limits, alarms go off by the thousand.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from clary.resources.alarm import (
    Alarm,
    AlarmState,
    AlarmValue,
    Suppression,
    Transition,
    Withheld,
)
from clary.resources.alarm_events import state_change_event
from clary.resources.alarm_history import HistoryItem, changed_state
from clary.resources.names import Namespace
from clary.store.alarm_history import insert_actions, insert_items
from clary.store.alarm_rows import dump_withheld, state_values
from clary.store.schema import alarms

AppendEvents = Callable[[Connection, Sequence[Mapping[str, Any]]], None]
"""Writes events for others to hear of, in the transaction of what they tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What an alarm was found to be."""

    alarm: Alarm
    """As it was judged."""

    value: AlarmValue
    reason: str
    reason_data: str | None = None
    """JSON."""


def write_states(
    connection: Connection,
    findings: Sequence[Finding],
    now: datetime,
    namespace: Namespace,
    append_events: AppendEvents,
) -> None:
    """Write states, histories, actions to be carried out, and events, in a transaction.

    Args:
        connection: The transaction.
        findings: Of different alarms, as they are now.
        now: When it is.
        namespace: For the events.
        append_events: Who takes them.
    """
    if not findings:
        return
    moved = [_after(finding, now) for finding in findings]
    columns = ("withheld", *state_values(moved[0].state))
    connection.execute(
        alarms.update()
        .where(alarms.c.name == sa.bindparam("of"))
        .values({column: sa.bindparam(column) for column in columns}),
        [
            {
                "of": alarm.name,
                "withheld": None if alarm.withheld is None else dump_withheld(alarm.withheld),
                **state_values(alarm.state),
            }
            for alarm in moved
        ],
    )
    items: list[HistoryItem] = []
    events: list[Mapping[str, Any]] = []
    actions: list[tuple[str, str, AlarmState, AlarmState]] = []
    for finding, alarm in zip(findings, moved, strict=True):
        old, new = finding.alarm.state, alarm.state
        if old.value is new.value:
            continue
        items.append(changed_state(finding.alarm, old, new))
        if alarm.withheld is None and alarm.actions_enabled:
            actions += [(alarm.name, action, old, new) for action in alarm.actions(new.value)]
        transition = Transition(alarm=alarm, old=old)
        events.append(state_change_event(transition, namespace))
    append_events(connection, events)
    insert_items(connection, items)
    insert_actions(connection, actions)


def _after(finding: Finding, now: datetime) -> Alarm:
    alarm, old = finding.alarm, finding.alarm.state
    is_transition = finding.value is not old.value
    withheld = alarm.withheld
    if is_transition and "ActionsSuppressor" in alarm.definition:
        announced = old.value if withheld is None else withheld.announced
        withheld = Withheld(announced=announced, since=now, by=Suppression.WAIT_PERIOD)
    state = AlarmState(
        value=finding.value,
        reason=finding.reason,
        reason_data=finding.reason_data,
        updated_at=now,
        transitioned_at=now if is_transition else old.transitioned_at,
    )
    return replace(alarm, state=state, withheld=withheld)
