"""What happened to alarms, and the actions that still have to be carried out.

Both are written in the transaction of the change that they belong to. An action stays until it was
carried out, so that a restart in between finds it; what then stands in the history is written in
the same transaction that removes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from clary.clock import Clock
from clary.resources.alarm import AlarmState, AlarmType, AlarmValue
from clary.resources.alarm_history import HistoryItem
from clary.store.changes import Changes
from clary.store.database import Database
from clary.store.gathering import Gathering
from clary.store.listing import Page
from clary.store.schema import alarm_actions, alarm_history

KEPT = timedelta(days=30)
"""How long AWS keeps the history of an alarm."""

MAX_ITEMS = 200_000
"""Most items of all alarms together; the oldest go first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingAction:
    """An action of a transition that is not known to have been carried out."""

    id: int
    alarm_name: str
    action: str
    """Its ARN."""

    old: AlarmState
    new: AlarmState


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryQuery:
    """Which items, in what order."""

    alarm_name: str | None = None
    types: Sequence[AlarmType] = (AlarmType.METRIC,)
    item_type: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    descending: bool = True
    limit: int = 100
    after: tuple[int, int] | None = None
    """Where the page before ended."""


Ending = tuple[PendingAction, HistoryItem | None]
"""An action that was carried out, and what became of it."""


class AlarmHistory:
    """The history of all alarms."""

    def __init__(self, database: Database, changes: Changes, clock: Clock) -> None:
        self._database = database
        self._changes = changes
        self._clock = clock
        self._endings: Gathering[Ending, None] = Gathering(database, _write_endings)

    async def list(self, query: HistoryQuery) -> Page[HistoryItem]:
        """Return one page of items. ``Page.next`` is for ``HistoryQuery.after``."""
        table = alarm_history
        moment = sa.type_coerce(table.c.at, sa.BigInteger)
        statement = sa.select(table, moment.label("moment")).where(
            table.c.alarm_type.in_([t.value for t in query.types])
        )
        if query.alarm_name is not None:
            statement = statement.where(table.c.alarm_name == query.alarm_name)
        if query.item_type is not None:
            statement = statement.where(table.c.item_type == query.item_type)
        if query.start is not None:
            statement = statement.where(table.c.at >= query.start)
        if query.end is not None:
            statement = statement.where(table.c.at <= query.end)
        if query.after is not None:
            place, last = sa.tuple_(moment, table.c.id), sa.tuple_(*query.after)
            statement = statement.where(place < last if query.descending else place > last)
        direction = sa.desc if query.descending else sa.asc
        statement = statement.order_by(direction(moment), direction(table.c.id))
        statement = statement.limit(query.limit + 1)

        def read(connection: Connection) -> Page[HistoryItem]:
            rows = connection.execute(statement).all()
            following = None
            if len(rows) > query.limit:
                rows = rows[: query.limit]
                following = (rows[-1].moment, rows[-1].id)
            return Page(tuple(_item(row) for row in rows), following)

        return await self._database.read(read)

    async def pending(self) -> Sequence[PendingAction]:
        """Return the actions to be carried out, oldest first."""

        def read(connection: Connection) -> list[PendingAction]:
            rows = connection.execute(sa.select(alarm_actions).order_by(alarm_actions.c.id))
            return [
                PendingAction(
                    id=row.id,
                    alarm_name=row.alarm_name,
                    action=row.action,
                    old=load_state(row.transition["old"]),
                    new=load_state(row.transition["new"]),
                )
                for row in rows
            ]

        return await self._database.read(read)

    async def finish(self, action: PendingAction, item: HistoryItem | None) -> None:
        """Take an action off the list, and write down what became of it."""
        await self._endings.add((action, item))

    async def prune(self) -> None:
        """Remove what is too old, and what is too much."""
        oldest = self._clock.now() - KEPT

        def apply(connection: Connection) -> None:
            table = alarm_history
            newest = connection.scalar(sa.select(sa.func.max(table.c.id))) or 0
            connection.execute(
                table.delete().where(sa.or_(table.c.at < oldest, table.c.id <= newest - MAX_ITEMS))
            )

        await self._database.write(apply)


def _write_endings(connection: Connection, endings: Sequence[Ending]) -> Sequence[None]:
    connection.execute(
        alarm_actions.delete().where(alarm_actions.c.id == sa.bindparam("done")),
        [{"done": action.id} for action, _ in endings],
    )
    insert_items(connection, [item for _, item in endings if item is not None])
    return [None] * len(endings)


def insert_items(connection: Connection, items: Sequence[HistoryItem]) -> None:
    """Write items in a transaction."""
    rows = [
        {
            "alarm_name": item.alarm_name,
            "alarm_type": item.alarm_type.value,
            "at": item.at,
            "item_type": item.item_type,
            "summary": item.summary,
            "data": item.data,
        }
        for item in items
    ]
    if rows:
        connection.execute(alarm_history.insert(), rows)


def insert_actions(
    connection: Connection, actions: Sequence[tuple[str, str, AlarmState, AlarmState]]
) -> None:
    """Write down in a transaction what has to be done because of it.

    Args:
        connection: The transaction.
        actions: Name of the alarm, ARN of the action, the state before and the one now.
    """
    rows = [
        {
            "alarm_name": name,
            "action": action,
            "transition": {"old": dump_state(old), "new": dump_state(new)},
        }
        for name, action, old, new in actions
    ]
    if rows:
        connection.execute(alarm_actions.insert(), rows)


def dump_state(state: AlarmState) -> dict[str, Any]:
    """Return a state as JSON types."""
    return {
        "value": state.value.value,
        "reason": state.reason,
        "reason_data": state.reason_data,
        "updated_at": state.updated_at.isoformat(),
        "transitioned_at": state.transitioned_at.isoformat(),
    }


def load_state(document: dict[str, Any]) -> AlarmState:
    """Return the state that ``dump_state`` wrote."""
    return AlarmState(
        value=AlarmValue(document["value"]),
        reason=document["reason"],
        reason_data=document["reason_data"],
        updated_at=datetime.fromisoformat(document["updated_at"]),
        transitioned_at=datetime.fromisoformat(document["transitioned_at"]),
    )


def _item(row: Any) -> HistoryItem:
    return HistoryItem(
        alarm_name=row.alarm_name,
        alarm_type=AlarmType(row.alarm_type),
        at=row.at,
        item_type=row.item_type,
        summary=row.summary,
        data=row.data,
    )
