"""What control does for targets: it sees what is due, and writes what it did in one transaction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from clary.clock import Clock
from clary.resources.scaling import (
    ScalableTarget,
    ScalingActivity,
    ScalingPolicy,
    ScheduledAction,
)
from clary.resources.scaling_activities import into_bounds, setting_bounds
from clary.store.changes import Changes
from clary.store.database import Database
from clary.store.scaling_activities import KIND, begin_activities
from clary.store.scaling_rows import (
    insert_activities,
    parts,
    policies_of,
    to_action,
    to_target,
    with_target,
)
from clary.store.schema import scalable_targets, scaling_policies, scheduled_actions

Targets = list[ScalableTarget]


@dataclass(frozen=True, slots=True)
class ScalingView:
    """Targets, each with all its policies."""

    targets: Mapping[str, ScalableTarget]
    """By id."""

    policies: Mapping[str, Sequence[ScalingPolicy]]
    """By id of the target."""


class ScalingDuty:
    """Targets as control sees them."""

    def __init__(self, database: Database, changes: Changes, clock: Clock) -> None:
        self._database = database
        self._changes = changes
        self._clock = clock

    async def targets(self) -> Targets:
        """Return all targets."""
        query = sa.select(scalable_targets)
        return await self._database.read(
            lambda connection: [to_target(row) for row in connection.execute(query)]
        )

    async def targets_below(self, prefix: str) -> Targets:
        """Return targets whose resource ids begin so; the prefix ends with a slash."""
        column = scalable_targets.c.resource_id
        last = prefix[:-1] + chr(ord("/") + 1)
        query = sa.select(scalable_targets).where(column >= prefix, column < last)
        return await self._database.read(
            lambda connection: [to_target(row) for row in connection.execute(query)]
        )

    async def targets_named(self, resource_id: str) -> Targets:
        """Return the targets of a resource."""
        query = sa.select(scalable_targets).where(scalable_targets.c.resource_id == resource_id)
        return await self._database.read(
            lambda connection: [to_target(row) for row in connection.execute(query)]
        )

    async def all_policies(self) -> Sequence[ScalingPolicy]:
        """Return all policies."""

        def query(connection: Connection) -> Sequence[ScalingPolicy]:
            ids = list(connection.scalars(sa.select(scalable_targets.c.id)))
            return policies_of(connection, ids)

        return await self._database.read(query)

    async def view(self, policy_ids: Sequence[str]) -> ScalingView:
        """Return the targets that policies belong to, with all policies of each."""

        def query(connection: Connection) -> ScalingView:
            target_ids: set[str] = set()
            for part in parts(policy_ids):
                column = scaling_policies.c.target_id
                named = sa.select(column).where(scaling_policies.c.id.in_(part))
                target_ids |= set(connection.scalars(named))
            return _view(connection, sorted(target_ids))

        return await self._database.read(query)

    async def view_targets(
        self, target_ids: Sequence[str], *, with_policies: Collection[str]
    ) -> ScalingView:
        """Return targets, some with their policies; those that are gone are left out."""
        return await self._database.read(
            lambda connection: _view(connection, target_ids, with_policies)
        )

    async def due(self) -> Sequence[tuple[ScheduledAction, ScalableTarget]]:
        """Return the scheduled actions whose time has come, the earliest first."""
        now = self._clock.now()
        table = scheduled_actions
        query = with_target(table).where(table.c.next_at <= now).order_by(table.c.next_at)

        def fetch(connection: Connection) -> Sequence[tuple[ScheduledAction, ScalableTarget]]:
            actions = [to_action(row) for row in connection.execute(query)]
            view = _view(connection, sorted({action.target_id for action in actions}))
            return [(action, view.targets[action.target_id]) for action in actions]

        return await self._database.read(fetch)

    async def next_due(self) -> datetime | None:
        """Return when the next scheduled action is due; None: none will be."""
        query = sa.select(sa.func.min(scheduled_actions.c.next_at))
        found: datetime | None = await self._database.read(lambda c: c.scalar(query))
        return found

    async def pass_over(self, action: ScheduledAction, next_at: datetime | None) -> None:
        """Plan a scheduled action's next time without carrying it out."""
        await self._database.write(lambda connection: _plan(connection, action, next_at))

    async def carry_out(
        self, action: ScheduledAction, next_at: datetime | None, capacity: int | None
    ) -> None:
        """Set the bounds that a scheduled action has, and plan its next time: both, or neither.

        Args:
            action: As it was read; nothing is done when it was carried out or changed meanwhile.
            next_at: When it is due again.
            capacity: What the target's number is, to be moved into the new bounds. None: nothing
                is there to be moved.
        """
        now = self._clock.now()

        def apply(connection: Connection) -> ScalingActivity | None:
            target = _view(connection, [action.target_id]).targets.get(action.target_id)
            if target is None or not _plan(connection, action, next_at):
                return None
            new = replace(
                target,
                min_capacity=_given(action.min_capacity, target.min_capacity),
                max_capacity=_given(action.max_capacity, target.max_capacity),
            )
            refusal = (
                f"Minimum capacity {new.min_capacity} is greater than maximum capacity "
                f"{new.max_capacity}."
                if new.min_capacity > new.max_capacity
                else None
            )
            done = setting_bounds(
                target, action.name, action.min_capacity, action.max_capacity, now, refusal=refusal
            )
            insert_activities(connection, [done])
            if refusal is None:
                connection.execute(
                    scalable_targets.update()
                    .where(scalable_targets.c.id == target.id)
                    .values(
                        min_capacity=new.min_capacity,
                        max_capacity=new.max_capacity,
                        last_reason=None,
                    )
                )
                # Newer than what it follows, for lists are sorted by time.
                move = (
                    None
                    if capacity is None
                    else into_bounds(new, capacity, now + timedelta(microseconds=1))
                )
                if move is not None:
                    begin_activities(connection, [move])
            return done

        await self._database.write(
            apply,
            after_commit=lambda _: self._changes.notify(KIND, action.target.resource_id),
        )


def _plan(connection: Connection, action: ScheduledAction, next_at: datetime | None) -> bool:
    table = scheduled_actions
    done = connection.execute(
        table.update()
        .where(table.c.id == action.id, table.c.next_at == action.next_at)
        .values(next_at=next_at)
    )
    return bool(done.rowcount)


def _view(
    connection: Connection,
    target_ids: Sequence[str],
    with_policies: Collection[str] | None = None,
) -> ScalingView:
    table = scalable_targets
    targets: dict[str, ScalableTarget] = {}
    for part in parts(target_ids):
        for row in connection.execute(sa.select(table).where(table.c.id.in_(part))):
            targets[row.id] = to_target(row)
    policies: dict[str, list[ScalingPolicy]] = {}
    of = targets if with_policies is None else targets.keys() & with_policies
    for policy in policies_of(connection, list(of)):
        policies.setdefault(policy.target_id, []).append(policy)
    return ScalingView(targets, policies)


def _given(value: Any, otherwise: int) -> int:
    return otherwise if value is None else int(value)
