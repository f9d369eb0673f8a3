"""Records of instances: control's durable intent to run them."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from clary.resources.inference_component import ComputeResources
from clary.resources.instance import InstanceRecord
from clary.store.database import Database
from clary.store.schema import instances

Records = list[InstanceRecord]


class Instances:
    """All instances, of this life of the server and of those before it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, endpoint_name: str) -> Records:
        """Return the records of one endpoint, oldest first."""
        return await self._select(instances.c.endpoint_name == endpoint_name)

    async def list_all(self) -> Records:
        """Return all records, oldest first."""
        return await self._select(sa.true())

    async def list_copies(self) -> Records:
        """Return the records of all copies of inference components, oldest first."""
        return await self._select(instances.c.host_id.is_not(None))

    async def add(self, records: Sequence[InstanceRecord]) -> None:
        """Write records of instances that are about to be started. Ids must be new."""
        rows = [
            {
                "id": record.id,
                "endpoint_name": record.endpoint_name,
                "variant_name": record.variant_name,
                "generation": record.generation,
                "created_at": record.created_at,
                "stopping": record.stopping,
                "fleet": record.fleet,
                "host_id": record.host_id,
                "share": None if record.share is None else asdict(record.share),
            }
            for record in records
        ]
        if rows:
            await self._database.write(lambda c: _execute(c, instances.insert(), rows))

    async def mark_stopping(self, ids: Sequence[str]) -> None:
        """Write that instances are to be stopped; ids that are not there are passed over."""
        if ids:
            statement = instances.update().where(instances.c.id.in_(ids)).values(stopping=True)
            await self._database.write(lambda c: _execute(c, statement))

    async def remove(self, instance_id: str) -> None:
        """Forget an instance whose process is gone. One that is not there is passed over."""
        statement = instances.delete().where(instances.c.id == instance_id)
        await self._database.write(lambda c: _execute(c, statement))

    async def _select(self, condition: sa.ColumnElement[bool]) -> Records:
        query = sa.select(instances).where(condition)
        query = query.order_by(instances.c.created_at, instances.c.id)
        return await self._database.read(lambda c: [_load(row) for row in c.execute(query)])


def _execute(
    connection: Connection, statement: sa.Executable, rows: Sequence[dict[str, Any]] | None = None
) -> None:
    connection.execute(statement, rows)


def _load(row: Row[Any]) -> InstanceRecord:
    return InstanceRecord(
        id=row.id,
        endpoint_name=row.endpoint_name,
        variant_name=row.variant_name,
        generation=row.generation,
        created_at=row.created_at,
        stopping=row.stopping,
        fleet=row.fleet,
        host_id=row.host_id,
        share=None if row.share is None else ComputeResources(**row.share),
    )
