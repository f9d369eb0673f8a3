"""Tags of everything that has an ARN here."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from clary.errors import LimitExceeded
from clary.resources.names import Namespace, ResourceKind, name_key
from clary.store import schema
from clary.store.database import Database

MAX_TAGS = 50
"""Most tags of one thing."""

_TABLES = {
    ResourceKind.MODEL: schema.models,
    ResourceKind.ENDPOINT_CONFIG: schema.endpoint_configs,
    ResourceKind.ENDPOINT: schema.endpoints,
    ResourceKind.TRANSFORM_JOB: schema.transform_jobs,
    ResourceKind.INFERENCE_COMPONENT: schema.inference_components,
}


class Tags:
    """Key-value pairs on things. They live and die with the thing."""

    def __init__(self, database: Database, namespace: Namespace) -> None:
        self._database = database
        self._namespace = namespace

    async def add(
        self, kind: ResourceKind, name: str, tags: Mapping[str, str]
    ) -> Mapping[str, str]:
        """Set tags, replacing values of keys that are there; return all tags, sorted by key.

        Raises:
            NotFound: There is no such thing.
            LimitExceeded: It would have more than ``MAX_TAGS``; none was set.
        """

        def apply(connection: Connection) -> Mapping[str, str]:
            self._require(connection, kind, name)
            delete_tags(connection, kind, name, list(tags))
            insert_tags(connection, kind, name, tags)
            all_tags = _select(connection, kind, name)
            if len(all_tags) > MAX_TAGS:
                raise LimitExceeded(
                    f"A resource can have at most {MAX_TAGS} tags; "
                    f"{self._namespace.arn(kind, name)} would have {len(all_tags)}."
                )
            return all_tags

        return await self._database.write(apply)

    async def list(self, kind: ResourceKind, name: str) -> Mapping[str, str]:
        """Return all tags, sorted by key.

        Raises:
            NotFound: There is no such thing.
        """

        def query(connection: Connection) -> Mapping[str, str]:
            self._require(connection, kind, name)
            return _select(connection, kind, name)

        return await self._database.read(query)

    async def remove(self, kind: ResourceKind, name: str, keys: Sequence[str]) -> None:
        """Remove tags; keys that are not there are passed over.

        Raises:
            NotFound: There is no such thing.
        """

        def apply(connection: Connection) -> None:
            self._require(connection, kind, name)
            delete_tags(connection, kind, name, keys)

        await self._database.write(apply)

    def _require(self, connection: Connection, kind: ResourceKind, name: str) -> None:
        table = _TABLES[kind]
        found = connection.scalar(
            sa.select(table.c.name_key).where(table.c.name_key == name_key(name))
        )
        if found is None:
            raise self._namespace.could_not_find(kind, name)


def insert_tags(
    connection: Connection, kind: ResourceKind, name: str, tags: Mapping[str, str]
) -> None:
    """Write tags that the thing does not have yet."""
    rows = [
        {"kind": kind.value, "name_key": name_key(name), "key": key, "value": value}
        for key, value in tags.items()
    ]
    if rows:
        connection.execute(schema.tags.insert(), rows)


def delete_tags(
    connection: Connection, kind: ResourceKind, name: str, keys: Sequence[str] | None = None
) -> None:
    """Remove some tags of a thing, or all."""
    table = schema.tags
    statement = table.delete().where(table.c.kind == kind.value, table.c.name_key == name_key(name))
    if keys is not None:
        statement = statement.where(table.c.key.in_(keys))
    connection.execute(statement)


def _select(connection: Connection, kind: ResourceKind, name: str) -> Mapping[str, str]:
    table = schema.tags
    rows = connection.execute(
        sa.select(table.c.key, table.c.value)
        .where(table.c.kind == kind.value, table.c.name_key == name_key(name))
        .order_by(table.c.key)
    )
    return {row.key: row.value for row in rows}
