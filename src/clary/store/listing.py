"""One page of a list: filters, order and where to go on.

Pages are cut by key (the sort value, then the unique name), not by offset, so that things created
or deleted between two calls are neither repeated nor skipped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

T = TypeVar("T")

SortBy = Literal["Name", "CreationTime", "Status"]

Position = tuple[Any, str]
"""Sort value and name key of the last row of a page; JSON types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Which things to list, and in what order."""

    name_contains: str | None = None
    """Part of the name, in any case."""

    created_before: datetime | None = None
    created_after: datetime | None = None
    """At this time or later."""

    modified_before: datetime | None = None
    modified_after: datetime | None = None

    status: str | None = None
    equal: tuple[tuple[str, str], ...] = ()
    """Columns that must have a value, and the value."""

    sort_by: SortBy = "CreationTime"
    descending: bool = True
    limit: int = 10
    after: Position | None = None
    """Where the page before ended."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of a list."""

    items: tuple[T, ...]
    next: Position | None
    """Where the next page starts. None: this is the last one."""


def fetch_page(
    connection: Connection,
    table: sa.Table,
    columns: Sequence[sa.ColumnElement[Any]],
    listing: Listing,
) -> tuple[list[tuple[Any, ...]], Position | None]:
    """Return the rows of one page, and where the next one starts.

    Args:
        connection: Where to read.
        table: One with ``name_key`` and ``created_at``, and with ``modified_at`` and ``status``
            where the listing uses them.
        columns: What to select.
        listing: Which rows.
    """
    key = table.c.name_key
    order_column = {
        "Name": key,
        "CreationTime": sa.type_coerce(table.c.created_at, sa.BigInteger),
        "Status": table.c.get("status", key),
    }[listing.sort_by]
    query = sa.select(order_column, key, *columns).where(*_conditions(table, listing))
    if listing.after is not None:
        place = sa.tuple_(order_column, key)
        last = sa.tuple_(*(sa.literal(value) for value in listing.after))
        query = query.where(place < last if listing.descending else place > last)
    direction = sa.desc if listing.descending else sa.asc
    query = query.order_by(direction(order_column), direction(key)).limit(listing.limit + 1)
    rows = connection.execute(query).all()
    if len(rows) <= listing.limit:
        return [tuple(row)[2:] for row in rows], None
    rows = rows[: listing.limit]
    return [tuple(row)[2:] for row in rows], (rows[-1][0], rows[-1][1])


def _conditions(table: sa.Table, listing: Listing) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if listing.name_contains:
        text = listing.name_contains.lower()
        conditions.append(table.c.name_key.contains(text, autoescape=True))
    if listing.created_before is not None:
        conditions.append(table.c.created_at < listing.created_before)
    if listing.created_after is not None:
        conditions.append(table.c.created_at >= listing.created_after)
    if listing.modified_before is not None:
        conditions.append(table.c.modified_at < listing.modified_before)
    if listing.modified_after is not None:
        conditions.append(table.c.modified_at > listing.modified_after)
    if listing.status is not None:
        conditions.append(table.c.status == listing.status)
    conditions += [table.c[column] == value for column, value in listing.equal]
    return conditions
