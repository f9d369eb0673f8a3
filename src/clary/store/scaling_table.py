"""What targets, policies and scheduled actions have in common: how they are written and listed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from clary.clock import Clock
from clary.errors import InvalidRequest, NotFound
from clary.resources.names import Namespace
from clary.resources.scaling import TargetName
from clary.store.changes import Changes
from clary.store.database import Database
from clary.store.listing import Page
from clary.store.schema import scalable_targets

T = TypeVar("T")

KIND = "scalable-target"
"""What the change feed calls them; names are resource ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingFilter:
    """Which of a list, and from where on. None: all."""

    resource_ids: Sequence[str] | None = None
    dimension: str | None = None
    names: Sequence[str] | None = None
    """Of policies or scheduled actions."""

    limit: int = 50
    after: tuple[datetime, str] | None = None
    """Creation time and id of the last one of the page before."""


class ScalingTable:
    """Things of scalable targets in the database."""

    def __init__(
        self, database: Database, changes: Changes, namespace: Namespace, clock: Clock
    ) -> None:
        self._database = database
        self._changes = changes
        self._namespace = namespace
        self._clock = clock

    async def _write(self, name: TargetName, apply: Callable[[Connection], T]) -> T:
        return await self._database.write(
            apply, after_commit=lambda _: self._changes.notify(KIND, name.resource_id)
        )

    async def _list(
        self,
        query: sa.Select[Any],
        table: sa.Table,
        wanted: ScalingFilter,
        read: Callable[[Row[Any]], T],
    ) -> Page[T]:
        if wanted.resource_ids is not None:
            query = query.where(scalable_targets.c.resource_id.in_(wanted.resource_ids))
        if wanted.dimension is not None:
            query = query.where(scalable_targets.c.dimension == wanted.dimension)
        if wanted.names is not None:
            query = query.where(table.c.name.in_(wanted.names))
        if wanted.after is not None:
            query = query.where(sa.tuple_(table.c.created_at, table.c.id) > wanted.after)
        query = query.order_by(table.c.created_at, table.c.id).limit(wanted.limit + 1)

        def fetch(connection: Connection) -> Page[T]:
            rows = connection.execute(query).all()
            more = len(rows) > wanted.limit
            page = rows[: wanted.limit]
            last = (page[-1].created_at.isoformat(), page[-1].id) if more else None
            return Page(tuple(read(row) for row in page), last)

        return await self._database.read(fetch)


def check_bounds(minimum: int | None, maximum: int | None) -> None:
    """Refuse bounds that no number can keep.

    Raises:
        InvalidRequest: They are negative, or the wrong way round.
    """
    if min(minimum or 0, maximum or 0) < 0:
        raise InvalidRequest("Minimum capacity and maximum capacity must be 0 or more.")
    if minimum is not None and maximum is not None and minimum > maximum:
        raise InvalidRequest("Minimum capacity cannot be greater than maximum capacity.")


def no_target(name: TargetName, verb: str = "registered") -> NotFound:
    """Return the refusal for a target that is not there."""
    preposition = "found" if verb == "found" else "registered"
    return NotFound(f"No scalable target {preposition} for {name.words()}")
