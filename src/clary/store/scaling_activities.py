"""Scaling activities: what was done to targets, and what is still under way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from clary.clock import Clock
from clary.resources.scaling import (
    ACTIVITIES_KEPT_S,
    OPEN,
    Cooling,
    ScalingActivity,
    TargetName,
)
from clary.resources.scaling_activities import overridden
from clary.store.changes import Changes
from clary.store.database import Database
from clary.store.listing import Page
from clary.store.scaling_rows import activity_values, insert_activities, parts, to_activity
from clary.store.schema import scalable_targets, scaling_activities

KIND = "scaling-activity"
"""What the change feed calls them; names are resource ids."""

_PROGRESS = ("status", "status_message", "ended_at")
"""What changes of an activity."""

_OPEN = scaling_activities.c.status.in_([status.value for status in OPEN])


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityFilter:
    """Which activities, and from where on. None: all."""

    resource_id: str | None = None
    dimension: str | None = None
    includes_not_scaled: bool = False
    limit: int = 50
    after: tuple[datetime, str] | None = None
    """Start and id of the last one of the page before."""


@dataclass(frozen=True, slots=True)
class Advance:
    """What has become of an activity."""

    before: ScalingActivity
    """As it was read."""

    after: ScalingActivity
    """As it shall be."""

    cooling: Cooling | None = None
    """What the target's cooldowns are counted from after it."""


class ScalingActivities:
    """All activities."""

    def __init__(self, database: Database, changes: Changes, clock: Clock) -> None:
        self._database = database
        self._changes = changes
        self._clock = clock

    async def list(self, wanted: ActivityFilter) -> Page[ScalingActivity]:
        """Return one page, newest first."""
        table = scaling_activities
        query = sa.select(table)
        if wanted.resource_id is not None:
            query = query.where(table.c.resource_id == wanted.resource_id)
        if wanted.dimension is not None:
            query = query.where(table.c.dimension == wanted.dimension)
        if not wanted.includes_not_scaled:
            query = query.where(sa.cast(table.c.not_scaled, sa.Text) == "[]")
        if wanted.after is not None:
            query = query.where(sa.tuple_(table.c.started_at, table.c.id) < wanted.after)
        query = query.order_by(table.c.started_at.desc(), table.c.id.desc())

        def fetch(connection: Connection) -> Page[ScalingActivity]:
            rows = connection.execute(query.limit(wanted.limit + 1)).all()
            more = len(rows) > wanted.limit
            page = rows[: wanted.limit]
            last = (page[-1].started_at.isoformat(), page[-1].id) if more else None
            return Page(tuple(to_activity(row) for row in page), last)

        return await self._database.read(fetch)

    async def open(self) -> Sequence[ScalingActivity]:
        """Return those that have no end yet, oldest first."""
        query = sa.select(scaling_activities).where(_OPEN).order_by(scaling_activities.c.started_at)
        return await self._database.read(
            lambda connection: [to_activity(row) for row in connection.execute(query)]
        )

    async def open_ids(self) -> Mapping[str, str]:
        """Return the ids of those that have no end yet, each with the id of its target."""
        query = sa.select(scaling_activities.c.id, scaling_activities.c.target_id).where(_OPEN)
        return await self._database.read(
            lambda connection: {row.id: row.target_id for row in connection.execute(query)}
        )

    async def begin(self, activities: Sequence[ScalingActivity]) -> None:
        """Write intents to move numbers. What was under way for their targets is overridden."""

        def apply(connection: Connection) -> None:
            begin_activities(connection, activities)
            _set_reasons(connection, [(activity.target_id, None) for activity in activities])

        if activities:
            await self._database.write(
                apply, after_commit=lambda _: self._notify([a.target for a in activities])
            )

    async def advance(self, steps: Sequence[Advance]) -> None:
        """Write what has become of activities, but of those that something else has become of."""
        table = scaling_activities

        def apply(connection: Connection) -> None:
            present: dict[str, str] = {}
            for part in parts([step.before.id for step in steps]):
                rows = sa.select(table.c.id, table.c.status).where(table.c.id.in_(part))
                present |= {row.id: row.status for row in connection.execute(rows)}
            valid = [s for s in steps if present.get(s.before.id) == s.before.status.value]
            _update(
                connection,
                table,
                [
                    {"key": step.before.id, **{name: values[name] for name in _PROGRESS}}
                    for step in valid
                    for values in (activity_values(step.after),)
                ],
            )
            _update(
                connection,
                scalable_targets,
                [
                    {
                        "key": step.before.target_id,
                        "out_at": step.cooling.out_at,
                        "out_added": step.cooling.out_added,
                        "in_at": step.cooling.in_at,
                    }
                    for step in valid
                    if step.cooling is not None
                ],
            )

        if steps:
            await self._database.write(apply)

    async def add_not_scaled(self, activities: Sequence[tuple[ScalingActivity, str]]) -> None:
        """Write why nothing was done, and remember the reasons, so that none is repeated."""

        def apply(connection: Connection) -> None:
            insert_activities(connection, [activity for activity, _ in activities])
            _set_reasons(connection, [(a.target_id, reason) for a, reason in activities])

        if activities:
            await self._database.write(apply)

    async def prune(self) -> None:
        """Remove what is older than activities are kept."""
        before = self._clock.now() - timedelta(seconds=ACTIVITIES_KEPT_S)
        table = scaling_activities
        await self._database.write(
            lambda connection: connection.execute(
                table.delete().where(table.c.started_at < before, sa.not_(_OPEN))
            )
        )

    def _notify(self, targets: Sequence[TargetName]) -> None:
        for target in targets:
            self._changes.notify(KIND, target.resource_id)


def begin_activities(connection: Connection, activities: Sequence[ScalingActivity]) -> None:
    """Write activities in a transaction, and override those of their targets that have no end.

    Args:
        connection: The transaction.
        activities: Of different targets.
    """
    table = scaling_activities
    following = {activity.target_id: activity for activity in activities}
    for part in parts(list(following)):
        rows = connection.execute(
            sa.select(table).where(table.c.target_id.in_(part), table.c.ended_at.is_(None))
        ).all()
        for row in rows:
            started_at = following[row.target_id].started_at
            values = activity_values(overridden(to_activity(row), started_at))
            connection.execute(table.update().where(table.c.id == row.id).values(**values))
    insert_activities(connection, activities)


def _set_reasons(connection: Connection, reasons: Sequence[tuple[str, str | None]]) -> None:
    rows = [{"key": target_id, "last_reason": reason} for target_id, reason in reasons]
    _update(connection, scalable_targets, rows)


def _update(connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set the same columns of many rows; ``key`` is the id of each."""
    if rows:
        columns: dict[str, Any] = {name: sa.bindparam(name) for name in rows[0] if name != "key"}
        update = table.update().where(table.c.id == sa.bindparam("key")).values(columns)
        connection.execute(update, rows)
