"""What models and endpoint configurations have in common: written once, read whole, deleted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from clary.resources.names import Namespace, ResourceKind, name_key
from clary.store.changes import Changes
from clary.store.database import Database
from clary.store.listing import Listing, Page, fetch_page
from clary.store.tags import delete_tags, insert_tags


class Definition(Protocol):
    """Something with a name that never changes."""

    @property
    def name(self) -> str: ...

    @property
    def created_at(self) -> datetime: ...


T = TypeVar("T", bound=Definition)


@dataclass(frozen=True, slots=True)
class DefinitionSummary:
    """A line of a list."""

    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DefinitionTable(Generic[T]):
    """How one kind is kept: its table, and the two ways between it and a document."""

    kind: ResourceKind
    table: sa.Table
    dump: Callable[[T], dict[str, Any]]
    load: Callable[[dict[str, Any]], T]

    def find(self, connection: Connection, name: str) -> T | None:
        """Return the one with exactly this name, or None."""
        document = connection.scalar(
            sa.select(self.table.c.document).where(
                self.table.c.name_key == name_key(name), self.table.c.name == name
            )
        )
        return None if document is None else self.load(document)

    def insert(self, connection: Connection, thing: T) -> None:
        """Write a new one.

        Raises:
            IntegrityError: The name is taken.
        """
        connection.execute(
            self.table.insert().values(
                name_key=name_key(thing.name),
                name=thing.name,
                created_at=thing.created_at,
                document=self.dump(thing),
            )
        )


class Definitions(Generic[T]):
    """All things of one kind."""

    def __init__(
        self,
        database: Database,
        changes: Changes,
        namespace: Namespace,
        table: DefinitionTable[T],
    ) -> None:
        self._database = database
        self._changes = changes
        self._namespace = namespace
        self._table = table

    async def create(self, thing: T, tags: Mapping[str, str] | None = None) -> None:
        """Write a new one, with its tags.

        Raises:
            AlreadyExists: The name is taken, in this case or another.
            NotFound: It names something that is not there.
        """

        def apply(connection: Connection) -> None:
            try:
                self._table.insert(connection, thing)
            except IntegrityError:
                raise self._namespace.already_exists(self._table.kind, thing.name) from None
            self._check(connection, thing)
            insert_tags(connection, self._table.kind, thing.name, tags or {})

        await self._database.write(apply, after_commit=lambda _: self._notify(thing.name))

    async def find(self, name: str) -> T | None:
        """Return the one with exactly this name, or None."""
        return await self._database.read(lambda connection: self._table.find(connection, name))

    async def get(self, name: str) -> T:
        """Return the one with exactly this name.

        Raises:
            NotFound: There is none.
        """
        thing = await self.find(name)
        if thing is None:
            raise self._namespace.could_not_find(self._table.kind, name)
        return thing

    async def list(self, listing: Listing) -> Page[DefinitionSummary]:
        """Return one page of a list."""

        def query(connection: Connection) -> Page[DefinitionSummary]:
            table = self._table.table
            columns = [table.c.name, table.c.created_at]
            rows, following = fetch_page(connection, table, columns, listing)
            return Page(tuple(DefinitionSummary(*row) for row in rows), following)

        return await self._database.read(query)

    async def delete(self, name: str) -> None:
        """Remove one and its tags. Endpoints that use it keep their snapshot.

        Raises:
            NotFound: There is none.
        """

        def apply(connection: Connection) -> None:
            table = self._table.table
            result = connection.execute(
                table.delete().where(table.c.name_key == name_key(name), table.c.name == name)
            )
            if result.rowcount == 0:
                raise self._namespace.could_not_find(self._table.kind, name)
            delete_tags(connection, self._table.kind, name)

        await self._database.write(apply, after_commit=lambda _: self._notify(name))

    def _check(self, connection: Connection, thing: T) -> None:
        """Refuse what names something that is not there. For subclasses."""

    def _notify(self, name: str) -> None:
        self._changes.notify(self._table.kind, name)
