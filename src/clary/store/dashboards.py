"""CloudWatch's dashboards: a name and a body, kept as they came."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from clary.store import schema
from clary.store.database import Database


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard."""

    name: str
    body: str
    """JSON."""
    modified_at: datetime


class Dashboards:
    """All dashboards."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, dashboard: Dashboard) -> None:
        """Write one, in place of the one that has its name."""
        table = schema.dashboards

        def apply(connection: Connection) -> None:
            connection.execute(table.delete().where(table.c.name == dashboard.name))
            connection.execute(
                table.insert().values(
                    name=dashboard.name, body=dashboard.body, modified_at=dashboard.modified_at
                )
            )

        await self._database.write(apply)

    async def find(self, name: str) -> Dashboard | None:
        """Return one."""
        query = sa.select(schema.dashboards).where(schema.dashboards.c.name == name)

        def read(connection: Connection) -> Dashboard | None:
            row = connection.execute(query).one_or_none()
            return None if row is None else Dashboard(*row)

        return await self._database.read(read)

    async def list(self) -> list[Dashboard]:
        """Return all, by name."""
        query = sa.select(schema.dashboards)

        def read(connection: Connection) -> list[Dashboard]:
            # Sorted here: databases sort by rules of their own, and pages are cut by Python's.
            return sorted(
                (Dashboard(*row) for row in connection.execute(query)), key=lambda each: each.name
            )

        return await self._database.read(read)

    async def delete(self, names: Sequence[str]) -> Sequence[str]:
        """Remove all of them and return nothing; or none, and return those that are missing."""
        table = schema.dashboards

        def apply(connection: Connection) -> Sequence[str]:
            found = set(connection.scalars(sa.select(table.c.name).where(table.c.name.in_(names))))
            missing = [name for name in names if name not in found]
            if not missing:
                connection.execute(table.delete().where(table.c.name.in_(names)))
            return missing

        return await self._database.write(apply)
