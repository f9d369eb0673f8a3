"""Scalable targets. What is deregistered takes its policies and scheduled actions along."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from clary.errors import InvalidRequest, LimitExceeded, NotFound
from clary.resources.scaling import (
    ScalableTarget,
    ScalingActivity,
    TargetName,
    target_arn,
)
from clary.store.listing import Page
from clary.store.scaling_activities import begin_activities
from clary.store.scaling_rows import find_target, to_target
from clary.store.scaling_table import ScalingFilter, ScalingTable, check_bounds, no_target
from clary.store.schema import scalable_targets, scaling_policies, scheduled_actions
from clary.store.tags import MAX_TAGS


class ScalableTargets(ScalingTable):
    """All targets."""

    async def find(self, name: TargetName) -> ScalableTarget | None:
        """Return a target, or None."""
        return await self._database.read(lambda connection: find_target(connection, name))

    async def get(self, name: TargetName) -> ScalableTarget:
        """Return a target.

        Raises:
            NotFound: There is none.
        """
        target = await self.find(name)
        if target is None:
            raise no_target(name)
        return target

    async def register(
        self,
        name: TargetName,
        *,
        role_arn: str,
        min_capacity: int | None = None,
        max_capacity: int | None = None,
        suspended: Mapping[str, bool] | None = None,
        tags: Mapping[str, str] | None = None,
        enforce: Callable[[ScalableTarget], ScalingActivity | None],
    ) -> ScalableTarget:
        """Write a target, or change one: what is None stays.

        Args:
            name: Of the target.
            role_arn: Of a new target, and where the caller names one, of an old one.
            min_capacity: Lower bound; needed for a new target.
            max_capacity: Upper bound; needed for a new target.
            suspended: Members of ``SuspendedState`` to set.
            tags: Of a new target.
            enforce: Says what has to be done to bring the number into its bounds.

        Raises:
            InvalidRequest: A bound is missing, or the lower is above the upper.
            LimitExceeded: It would have too many tags.
        """
        now = self._clock.now()

        def apply(connection: Connection) -> ScalableTarget:
            present = find_target(connection, name)
            if present is None:
                if min_capacity is None or max_capacity is None:
                    raise InvalidRequest(
                        "Minimum capacity and maximum capacity must be specified to register a "
                        "new scalable target."
                    )
                target = ScalableTarget(
                    id=uuid.uuid4().hex,
                    name=name,
                    min_capacity=min_capacity,
                    max_capacity=max_capacity,
                    role_arn=role_arn,
                    created_at=now,
                )
            else:
                target = replace(
                    present,
                    min_capacity=present.min_capacity if min_capacity is None else min_capacity,
                    max_capacity=present.max_capacity if max_capacity is None else max_capacity,
                    role_arn=role_arn or present.role_arn,
                )
            target = replace(target, suspended=replace(target.suspended, **(suspended or {})))
            check_bounds(target.min_capacity, target.max_capacity)
            values = {
                "min_capacity": target.min_capacity,
                "max_capacity": target.max_capacity,
                "role_arn": target.role_arn,
                "suspended": asdict(target.suspended),
            }
            if present is None:
                connection.execute(
                    scalable_targets.insert().values(
                        id=target.id,
                        resource_id=name.resource_id,
                        dimension=name.dimension,
                        tags=_checked_tags(tags or {}),
                        created_at=now,
                        out_added=0,
                        **values,
                    )
                )
            else:
                connection.execute(
                    scalable_targets.update()
                    .where(scalable_targets.c.id == target.id)
                    .values(last_reason=None, **values)
                )
            activity = enforce(target)
            if activity is not None:
                begin_activities(connection, [activity])
            return target

        return await self._write(name, apply)

    async def deregister(self, name: TargetName) -> None:
        """Remove a target with its policies and scheduled actions.

        Raises:
            NotFound: There is none.
        """

        def apply(connection: Connection) -> None:
            target = find_target(connection, name)
            if target is None:
                raise no_target(name, "found")
            for table in (scaling_policies, scheduled_actions):
                connection.execute(table.delete().where(table.c.target_id == target.id))
            connection.execute(scalable_targets.delete().where(scalable_targets.c.id == target.id))

        await self._write(name, apply)

    async def list(self, wanted: ScalingFilter) -> Page[ScalableTarget]:
        """Return one page of targets."""
        query = sa.select(scalable_targets)
        return await self._list(query, scalable_targets, wanted, to_target)

    async def tags(self, target_id: str) -> Mapping[str, str]:
        """Return the tags of a target, sorted by key.

        Raises:
            NotFound: There is no such target.
        """
        found = await self._database.read(lambda c: self._tags(c, target_id))
        return dict(sorted(found.items()))

    async def change_tags(
        self, target_id: str, add: Mapping[str, str], remove: Sequence[str] = ()
    ) -> None:
        """Set tags, and remove others; keys that are not there are passed over.

        Raises:
            NotFound: There is no such target.
            LimitExceeded: It would have too many; none was set.
        """

        def apply(connection: Connection) -> None:
            kept = {k: v for k, v in self._tags(connection, target_id).items() if k not in remove}
            connection.execute(
                scalable_targets.update()
                .where(scalable_targets.c.id == target_id)
                .values(tags=_checked_tags({**kept, **add}))
            )

        await self._database.write(apply)

    def _tags(self, connection: Connection, target_id: str) -> dict[str, str]:
        tags = connection.scalar(
            sa.select(scalable_targets.c.tags).where(scalable_targets.c.id == target_id)
        )
        if tags is None:
            arn = target_arn(self._namespace, target_id)
            raise NotFound(f"The specified resource doesn't exist: {arn}")
        return dict(tags)


def _checked_tags(tags: Mapping[str, str]) -> dict[str, str]:
    if len(tags) > MAX_TAGS:
        raise LimitExceeded(f"A resource can have at most {MAX_TAGS} tags.")
    return dict(tags)
