"""Scheduled actions."""

import uuid
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from clary.errors import LimitExceeded, NotFound
from clary.resources.scaling import ScheduledAction, TargetName
from clary.store.listing import Page
from clary.store.scaling_rows import find_action, find_target, to_action, with_target
from clary.store.scaling_table import ScalingFilter, ScalingTable, no_target
from clary.store.schema import scheduled_actions

MAX_ACTIONS = 200
"""Most scheduled actions of one target."""


class ScheduledActions(ScalingTable):
    """All scheduled actions."""

    async def put(
        self,
        target: TargetName,
        name: str,
        change: Callable[[ScheduledAction | None], ScheduledAction],
    ) -> None:
        """Write a scheduled action, or change one.

        Args:
            target: Whose.
            name: Of the action.
            change: Is given the action that is there, and returns how it shall be; id and target
                are filled in here.

        Raises:
            NotFound: There is no such target.
            LimitExceeded: The target has as many as it may.
        """

        def apply(connection: Connection) -> None:
            found = find_target(connection, target)
            if found is None:
                raise no_target(target)
            table = scheduled_actions
            present = find_action(connection, found.id, name)
            action = change(present)
            values = {
                "schedule": action.schedule,
                "timezone": action.timezone,
                "starts_at": action.starts_at,
                "ends_at": action.ends_at,
                "min_capacity": action.min_capacity,
                "max_capacity": action.max_capacity,
                "next_at": action.next_at,
            }
            if present is not None:
                connection.execute(table.update().where(table.c.id == present.id).values(**values))
                return
            count = connection.scalar(
                sa.select(sa.func.count()).where(table.c.target_id == found.id)
            )
            if (count or 0) >= MAX_ACTIONS:
                raise LimitExceeded(
                    f"A scalable target can have at most {MAX_ACTIONS} scheduled actions."
                )
            connection.execute(
                table.insert().values(
                    id=str(uuid.uuid4()),
                    target_id=found.id,
                    name=name,
                    created_at=action.created_at,
                    **values,
                )
            )

        await self._write(target, apply)

    async def delete(self, target: TargetName, name: str) -> None:
        """Remove a scheduled action.

        Raises:
            NotFound: There is none.
        """

        def apply(connection: Connection) -> None:
            found = find_target(connection, target)
            action = find_action(connection, found.id, name) if found else None
            if action is None:
                raise NotFound(
                    f"No scheduled action found for {target.words()}, scheduled action name: {name}"
                )
            connection.execute(
                scheduled_actions.delete().where(scheduled_actions.c.id == action.id)
            )

        await self._write(target, apply)

    async def list(self, wanted: ScalingFilter) -> Page[ScheduledAction]:
        """Return one page of scheduled actions."""
        query = with_target(scheduled_actions)
        return await self._list(query, scheduled_actions, wanted, to_action)
