"""Which alarms to describe: the filters of DescribeAlarms, as conditions on the table."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from clary.resources.alarm import Alarm, AlarmType, AlarmValue
from clary.store.schema import alarm_children, alarms


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmFilter:
    """Which alarms to describe; what is None or empty does not matter."""

    names: Sequence[str] = ()
    name_prefix: str | None = None
    types: Sequence[AlarmType] = (AlarmType.METRIC,)
    value: AlarmValue | None = None
    action_prefix: str | None = None
    children_of: str | None = None
    parents_of: str | None = None
    metric_id: str | None = None
    limit: int = 50
    after: str | None = None
    """Name of the last alarm of the page before."""


def conditions(wanted: AlarmFilter) -> list[sa.ColumnElement[bool]]:
    """Return the conditions of a filter, all but that on actions."""
    table, children = alarms, alarm_children
    found: list[sa.ColumnElement[bool]] = [table.c.type.in_([t.value for t in wanted.types])]
    if wanted.names:
        found.append(table.c.name.in_(list(wanted.names)))
    if wanted.name_prefix is not None:
        found.append(table.c.name.startswith(wanted.name_prefix, autoescape=True))
        # LIKE takes letters in any case; names differ by it.
        prefix = wanted.name_prefix
        found.append(sa.func.substr(table.c.name, 1, len(prefix)) == prefix)
    if wanted.value is not None:
        found.append(table.c.state_value == wanted.value.value)
    if wanted.metric_id is not None:
        found.append(table.c.metric_id == wanted.metric_id)
    if wanted.children_of is not None:
        of = sa.select(children.c.child).where(children.c.parent == wanted.children_of)
        found.append(table.c.name.in_(of))
    if wanted.parents_of is not None:
        of = sa.select(children.c.parent).where(children.c.child == wanted.parents_of)
        found.append(table.c.name.in_(of))
    if wanted.after is not None:
        found.append(table.c.name > wanted.after)
    return found


def acts_on(alarm: Alarm, prefix: str | None) -> bool:
    """Return whether an alarm has an action that starts so; any has, with None."""
    if prefix is None:
        return True
    return any(a.startswith(prefix) for value in AlarmValue for a in alarm.actions(value))
