"""Scaling activities: what was done to targets, and what is still under way."""

from collections.abc import Sequence
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
from clary.store.scaling_rows import activity_values, insert_activity, to_activity
from clary.store.schema import scalable_targets, scaling_activities

KIND = "scaling-activity"
"""What the change feed calls them; names are resource ids."""

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

    async def begin(self, activities: Sequence[ScalingActivity]) -> None:
        """Write intents to move numbers. What was under way for their targets is overridden."""

        def apply(connection: Connection) -> None:
            for activity in activities:
                begin_activity(connection, activity)
                _set_reason(connection, activity.target_id, None)

        if activities:
            await self._database.write(
                apply, after_commit=lambda _: self._notify([a.target for a in activities])
            )

    async def advance(
        self, before: ScalingActivity, after: ScalingActivity, cooling: Cooling | None = None
    ) -> None:
        """Write what has become of an activity, unless something else has become of it meanwhile.

        Args:
            before: As it was read.
            after: As it shall be.
            cooling: What the target's cooldowns are counted from after it.
        """
        table = scaling_activities

        def apply(connection: Connection) -> None:
            values = activity_values(after)
            done = connection.execute(
                table.update()
                .where(table.c.id == before.id, table.c.status == before.status.value)
                .values({name: values[name] for name in ("status", "status_message", "ended_at")})
            )
            if done.rowcount and cooling is not None:
                connection.execute(
                    scalable_targets.update()
                    .where(scalable_targets.c.id == before.target_id)
                    .values(out_at=cooling.out_at, out_added=cooling.out_added, in_at=cooling.in_at)
                )

        await self._database.write(apply)

    async def add_not_scaled(self, activities: Sequence[tuple[ScalingActivity, str]]) -> None:
        """Write why nothing was done, and remember the reasons, so that none is repeated."""

        def apply(connection: Connection) -> None:
            for activity, reason in activities:
                insert_activity(connection, activity)
                _set_reason(connection, activity.target_id, reason)

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


def begin_activity(connection: Connection, activity: ScalingActivity) -> None:
    """Write an activity in a transaction, and override those of its target that have no end."""
    table = scaling_activities
    rows = connection.execute(
        sa.select(table).where(table.c.target_id == activity.target_id, table.c.ended_at.is_(None))
    ).all()
    for row in rows:
        values = activity_values(overridden(to_activity(row), activity.started_at))
        connection.execute(table.update().where(table.c.id == row.id).values(**values))
    insert_activity(connection, activity)


def _set_reason(connection: Connection, target_id: str, reason: Any) -> None:
    connection.execute(
        scalable_targets.update()
        .where(scalable_targets.c.id == target_id)
        .values(last_reason=reason)
    )
