"""Data points of metrics, as rows.

What the numbers mean, and how two points become one, is known in ``clary.metrics``; here they are
written together: points, the series that are new, and the marks up to which their sources were
read, in one transaction, so that a crash neither loses nor repeats any.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from clary.store import schema
from clary.store.database import Database

CHUNK = 400
"""Keys of one query."""

Place = tuple[int, int, int]
"""Series, start of the period in seconds since 1970, its length in seconds."""


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """One metric in one unit."""

    id: int
    namespace: str
    name: str
    dimensions: Sequence[Sequence[str]]
    unit: str
    last_at: int
    """Start of its newest period, to the hour."""


@dataclass(frozen=True, slots=True)
class PresenceRow:
    """A time in which a series is 0 wherever it has no point."""

    series_id: int
    since: int
    until: int | None
    step_s: int


@dataclass(frozen=True, slots=True)
class PointRow:
    """The values of one period."""

    count: float
    sum: float
    minimum: float
    maximum: float
    buckets: bytes | None


@dataclass(frozen=True, slots=True)
class Mark:
    """How far one item of a source has been read."""

    source: str
    item: str
    document: Mapping[str, Any]


Merge = Callable[[PointRow, PointRow], PointRow]


@dataclass(slots=True, kw_only=True)
class MetricWrite:
    """All that belongs into one transaction."""

    points: Mapping[Place, PointRow]
    """To be added to what is there."""
    series: Sequence[SeriesRow] = ()
    """New, or with a new ``last_at``."""
    presence: Sequence[PresenceRow] = ()
    marks: Sequence[Mark] = ()
    seen_at: int = 0
    """When the marks were made."""
    forgotten: Sequence[tuple[str, str | None]] = ()
    """Sources and items whose marks are not needed any more; None: all items."""


class MetricPoints:
    """Tables of metrics.

    Args:
        database: Where they are.
        merge: Makes one point of two of the same period.
    """

    def __init__(self, database: Database, merge: Merge) -> None:
        self._database = database
        self._merge = merge

    async def write(self, content: MetricWrite) -> None:
        """Write; durable when it returns."""

        def apply(connection: Connection) -> None:
            _upsert(connection, schema.metric_series, [_series(row) for row in content.series])
            _upsert(connection, schema.metric_presence, [_presence(r) for r in content.presence])
            marks = [
                {"source": m.source, "item": m.item, "document": dict(m.document),
                 "seen_at": content.seen_at}
                for m in content.marks
            ]  # fmt: skip
            _upsert(connection, schema.metric_marks, marks)
            table = schema.metric_marks
            for source, item in content.forgotten:
                condition = table.c.item == item if item is not None else sa.true()
                connection.execute(table.delete().where(table.c.source == source, condition))
            self._add(connection, content.points)

        await self._database.write(apply)

    async def read(
        self, series_ids: Sequence[int], start: int, end: int
    ) -> list[tuple[Place, PointRow]]:
        """Return the points of series whose period begins in ``start <= at < end``."""
        table = schema.metric_points

        def query(connection: Connection) -> list[tuple[Place, PointRow]]:
            rows = connection.execute(
                sa.select(table).where(
                    table.c.series_id.in_(series_ids), table.c.at >= start, table.c.at < end
                )
            )
            return [((r[0], r[1], r[2]), PointRow(*r[3:])) for r in rows]

        return await self._database.read(query)

    async def read_all(self, start: int) -> list[tuple[Place, PointRow]]:
        """Return the points of all series whose period begins at ``start`` or later."""
        table = schema.metric_points

        def query(connection: Connection) -> list[tuple[Place, PointRow]]:
            found = sa.select(table).where(table.c.resolution_s.in_((1, 10, 60)))
            rows = connection.execute(found.where(table.c.at >= start))
            return [((r[0], r[1], r[2]), PointRow(*r[3:])) for r in rows]

        return await self._database.read(query)

    async def load_series(self) -> list[SeriesRow]:
        """Return all series."""
        query = sa.select(schema.metric_series)
        return await self._database.read(
            lambda connection: [SeriesRow(*row) for row in connection.execute(query)]
        )

    async def load_presence(self) -> list[PresenceRow]:
        """Return all times in which series are 0 where they have no point."""
        query = sa.select(schema.metric_presence)
        return await self._database.read(
            lambda connection: [PresenceRow(*row) for row in connection.execute(query)]
        )

    async def load_marks(self) -> list[Mark]:
        """Return how far the sources have been read."""
        table = schema.metric_marks
        query = sa.select(table.c.source, table.c.item, table.c.document)
        return await self._database.read(
            lambda connection: [Mark(*row) for row in connection.execute(query)]
        )

    async def roll_up(self, resolution_s: int, into_s: int, before: int, limit: int) -> int:
        """Make points coarser; return how many there were.

        Args:
            resolution_s: Those of this resolution ...
            into_s: ... become points of this one. 0: they are removed.
            before: That begin before this time, a multiple of ``into_s``.
            limit: At most about so many at once, so that other writes need not wait long.
        """
        table = schema.metric_points

        def apply(connection: Connection) -> int:
            condition = (table.c.resolution_s == resolution_s, table.c.at < before)
            last = connection.scalar(
                sa.select(table.c.at).where(*condition).order_by(table.c.at).offset(limit).limit(1)
            )
            if last is not None:
                condition = (table.c.resolution_s == resolution_s, table.c.at <= last)
            rows = connection.execute(sa.select(table).where(*condition)).all()
            connection.execute(table.delete().where(*condition))
            coarse: dict[Place, PointRow] = {}
            for row in rows if into_s else ():
                place = (row[0], row[1] - row[1] % into_s, into_s)
                point = PointRow(*row[3:])
                known = coarse.get(place)
                coarse[place] = point if known is None else self._merge(known, point)
            self._add(connection, coarse)
            return len(rows)

        return await self._database.write(apply)

    async def remove_series(self, before: int) -> list[int]:
        """Remove series that have had no point since a time; return their ids."""
        series, presence = schema.metric_series, schema.metric_presence

        def apply(connection: Connection) -> list[int]:
            ids = list(connection.scalars(sa.select(series.c.id).where(series.c.last_at < before)))
            for some in _chunks(ids):
                connection.execute(presence.delete().where(presence.c.series_id.in_(some)))
                connection.execute(series.delete().where(series.c.id.in_(some)))
            return ids

        return await self._database.write(apply)

    def _add(self, connection: Connection, points: Mapping[Place, PointRow]) -> None:
        table = schema.metric_points
        key = sa.tuple_(table.c.series_id, table.c.at, table.c.resolution_s)
        known: dict[Place, PointRow] = {}
        for some in _chunks(list(points)):
            for r in connection.execute(sa.select(table).where(key.in_(some))):
                known[r[0], r[1], r[2]] = PointRow(*r[3:])
        merged = {
            place: self._merge(known[place], point) if place in known else point
            for place, point in points.items()
        }
        new = [_point(place, point) for place, point in merged.items() if place not in known]
        if new:
            connection.execute(table.insert(), new)
        changed = [_changed(place, merged[place]) for place in known]
        if changed:
            update = table.update().where(
                table.c.series_id == sa.bindparam("its_series"),
                table.c.at == sa.bindparam("its_at"),
                table.c.resolution_s == sa.bindparam("its_resolution"),
            )
            connection.execute(update, changed)


def _upsert(connection: Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows, replacing those with the same primary key."""
    names = [column.name for column in table.primary_key]
    key = sa.tuple_(*table.primary_key)
    by_key = {tuple(row[name] for name in names): row for row in rows}
    for some in _chunks(list(by_key)):
        connection.execute(table.delete().where(key.in_(some)))
    if rows:
        connection.execute(table.insert(), list(by_key.values()))


def _chunks(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))


def _series(row: SeriesRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "namespace": row.namespace,
        "name": row.name,
        "dimensions": [list(pair) for pair in row.dimensions],
        "unit": row.unit,
        "last_at": row.last_at,
    }


def _presence(row: PresenceRow) -> dict[str, Any]:
    return {
        "series_id": row.series_id,
        "since": row.since,
        "until": row.until,
        "step_s": row.step_s,
    }


def _values(point: PointRow) -> dict[str, Any]:
    return {
        "count": point.count,
        "sum": point.sum,
        "minimum": point.minimum,
        "maximum": point.maximum,
        "buckets": point.buckets,
    }


def _point(place: Place, point: PointRow) -> dict[str, Any]:
    series_id, at, resolution_s = place
    return {"series_id": series_id, "at": at, "resolution_s": resolution_s, **_values(point)}


def _changed(place: Place, point: PointRow) -> dict[str, Any]:
    series_id, at, resolution_s = place
    keys = {"its_series": series_id, "its_at": at, "its_resolution": resolution_s}
    return {**keys, **_values(point)}
