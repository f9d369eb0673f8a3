"""Log groups, and the streams and events that clients put.

A stream's events are in order of their timestamps, those with the same in order of arrival. An
event's position is one number that says both.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from clary.clock import Clock
from clary.resources.log_group import (
    LogEvent,
    LogGroup,
    LogStream,
    group_exists,
    no_group,
    no_stream,
    stream_exists,
)
from clary.store.database import Database
from clary.store.log_trimming import trim_group
from clary.store.schema import log_events, log_groups, log_streams

EVENT_OVERHEAD_BYTES = 26
"""What AWS counts for an event beside its message."""

_SERIALS = 10**15
"""More than there will be events."""

Groups = list[LogGroup]


@dataclass(frozen=True, slots=True)
class StoredStream:
    """A stream of the database, as it is found."""

    id: int
    name: str
    created_ms: int
    stored_bytes: int


Streams = list[StoredStream]
Events = list[LogEvent]


def position_at(timestamp_ms: int) -> int:
    """Return the position before all events of this time and later."""
    return timestamp_ms * _SERIALS


def ensure_group(connection: Connection, name: str, now: datetime) -> None:
    """Write a log group unless it is there."""
    found = connection.scalar(sa.select(log_groups.c.name).where(log_groups.c.name == name))
    if found is None:
        _insert_group(connection, LogGroup(name=name, created_at=now))


class LogRecords:
    """All log groups, and what the database holds of their streams."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    # Groups -------------------------------------------------------------------------------

    async def create_group(self, group: LogGroup) -> None:
        """Write a new group.

        Raises:
            AlreadyExists: There is one.
        """

        def apply(connection: Connection) -> None:
            if _find_group(connection, group.name) is not None:
                raise group_exists()
            _insert_group(connection, group)

        await self._database.write(apply)

    async def ensure_groups(self, names: Collection[str]) -> None:
        """Write those of the groups that are not there."""
        now = self._clock.now()

        def apply(connection: Connection) -> None:
            for name in names:
                ensure_group(connection, name, now)

        if names:
            await self._database.write(apply)

    async def get_group(self, name: str) -> LogGroup:
        """Return a group.

        Raises:
            NotFound: There is none.
        """
        row = await self._database.read(lambda c: _find_group(c, name))
        if row is None:
            raise no_group()
        return _load_group(row)

    async def list_groups(
        self,
        *,
        prefix: str = "",
        contains: str = "",
        after: str = "",
        limit: int | None = None,
    ) -> Groups:
        """Return groups in order of their names, from behind ``after`` on."""
        name = log_groups.c.name
        query = sa.select(log_groups).where(name > after).order_by(name).limit(limit)
        if prefix:
            query = query.where(name.startswith(prefix, autoescape=True))
        if contains:
            query = query.where(name.contains(contains, autoescape=True))
        groups = await self._database.read(lambda c: [_load_group(row) for row in c.execute(query)])
        # LIKE takes no notice of case in SQLite.
        return [g for g in groups if g.name.startswith(prefix) and contains in g.name]

    async def change_group(self, name: str, **values: Any) -> None:
        """Write columns of a group.

        Raises:
            NotFound: There is none.
        """
        statement = log_groups.update().where(log_groups.c.name == name).values(**values)

        def apply(connection: Connection) -> None:
            if connection.execute(statement).rowcount == 0:
                raise no_group()

        await self._database.write(apply)

    async def change_tags(
        self, name: str, added: Mapping[str, str], removed: Collection[str] = ()
    ) -> None:
        """Set and remove tags of a group.

        Raises:
            NotFound: There is none.
        """

        def apply(connection: Connection) -> None:
            row = _find_group(connection, name)
            if row is None:
                raise no_group()
            kept = {key: value for key, value in row.tags.items() if key not in removed}
            connection.execute(
                log_groups.update().where(log_groups.c.name == name).values(tags={**kept, **added})
            )

        await self._database.write(apply)

    async def delete_group(self, name: str) -> None:
        """Remove a group with its streams and events.

        Raises:
            NotFound: There is none.
        """
        statement = log_groups.delete().where(log_groups.c.name == name)

        def apply(connection: Connection) -> None:
            if connection.execute(statement).rowcount == 0:
                raise no_group()

        await self._database.write(apply)

    # Streams ------------------------------------------------------------------------------

    async def create_stream(self, group: str, name: str) -> None:
        """Write a new stream.

        Raises:
            NotFound: There is no such group.
            AlreadyExists: There is a stream of this name.
        """
        now = self._clock.now()

        def apply(connection: Connection) -> None:
            if _find_group(connection, group) is None:
                raise no_group()
            if _find_stream(connection, group, name) is not None:
                raise stream_exists()
            _insert_stream(connection, group, name, now)

        await self._database.write(apply)

    async def find_stream(self, group: str, name: str) -> StoredStream | None:
        """Return a stream of the database."""
        return await self._database.read(lambda c: _find_stream(c, group, name))

    async def list_streams(self, group: str, prefix: str = "") -> Streams:
        """Return the streams of a group that the database holds, in order of their names."""
        query = sa.select(log_streams).where(log_streams.c.group_name == group)
        query = query.order_by(log_streams.c.name)
        streams = await self._database.read(lambda c: [_load_stream(r) for r in c.execute(query)])
        return [stream for stream in streams if stream.name.startswith(prefix)]

    async def describe_streams(self, streams: Sequence[StoredStream]) -> list[LogStream]:
        """Return streams with the times of their events."""
        events = log_events.c
        query = (
            sa.select(
                events.stream_id, sa.func.min(events.timestamp_ms), sa.func.max(events.timestamp_ms)
            )
            .where(events.stream_id.in_([stream.id for stream in streams]))
            .group_by(events.stream_id)
        )
        rows = await self._database.read(lambda c: c.execute(query).all())
        times = {stream_id: (first, last) for stream_id, first, last in rows}
        described = []
        for stream in streams:
            first, last = times.get(stream.id, (None, None))
            described.append(
                LogStream(
                    name=stream.name,
                    created_ms=stream.created_ms,
                    first_event_ms=first,
                    last_event_ms=last,
                    stored_bytes=stream.stored_bytes,
                )
            )
        return described

    async def stored_bytes(self, groups: Sequence[str]) -> dict[str, int]:
        """Return how much the database holds of groups."""
        columns = log_streams.c
        query = (
            sa.select(columns.group_name, sa.func.sum(columns.stored_bytes))
            .where(columns.group_name.in_(groups))
            .group_by(columns.group_name)
        )
        rows = await self._database.read(lambda c: c.execute(query).all())
        return {group: int(total) for group, total in rows}

    async def delete_stream(self, group: str, name: str) -> None:
        """Remove a stream with its events; one that is not there is passed over."""
        statement = log_streams.delete().where(
            log_streams.c.group_name == group, log_streams.c.name == name
        )

        def apply(connection: Connection) -> None:
            connection.execute(statement)

        await self._database.write(apply)

    # Events -------------------------------------------------------------------------------

    async def append(
        self, group: str, stream: str, events: Sequence[tuple[int, str]], *, create: bool
    ) -> None:
        """Write events: time in milliseconds, and message.

        Args:
            group: The group.
            stream: The stream.
            events: At least one.
            create: Whether group and stream are made when they are not there.

        Raises:
            NotFound: There is no such group or stream.
        """
        now = self._clock.now()
        ingested_ms = int(now.timestamp() * 1000)

        def apply(connection: Connection) -> None:
            if create:
                ensure_group(connection, group, now)
            elif _find_group(connection, group) is None:
                raise no_group()
            found = _find_stream(connection, group, stream)
            if found is None:
                if not create:
                    raise no_stream()
                stream_id = _insert_stream(connection, group, stream, now)
            else:
                stream_id = found.id
            rows = [
                {
                    "stream_id": stream_id,
                    "timestamp_ms": timestamp_ms,
                    "ingested_ms": ingested_ms,
                    # PostgreSQL has no text with a zero in it.
                    "message": message.replace("\0", "\ufffd"),
                    "size_bytes": _size(message),
                }
                for timestamp_ms, message in events
            ]
            total = sum(_size(message) for _, message in events)
            connection.execute(log_events.insert(), rows)
            _add_bytes(connection, stream_id, total)

        await self._database.write(apply)

    async def read(
        self,
        stream: StoredStream,
        *,
        start: int,
        stop: int,
        limit: int,
        newest: bool = False,
    ) -> Events:
        """Return events of a stream between two positions, in order.

        Args:
            stream: The stream.
            start: First position.
            stop: First position behind the last.
            limit: Most events.
            newest: Whether to return the last of them instead of the first.
        """
        columns = log_events.c
        place = sa.tuple_(columns.timestamp_ms, columns.id)
        query = (
            sa.select(log_events)
            .where(
                columns.stream_id == stream.id,
                place >= sa.tuple_(*map(sa.literal, divmod(start, _SERIALS))),
                place < sa.tuple_(*map(sa.literal, divmod(stop, _SERIALS))),
            )
            .limit(limit)
        )
        direction = sa.desc if newest else sa.asc
        query = query.order_by(direction(columns.timestamp_ms), direction(columns.id))
        rows = await self._database.read(lambda c: c.execute(query).all())
        events = [_load_event(stream.name, row) for row in rows]
        return events[::-1] if newest else events

    async def trim(self, *, group: str, before_ms: int | None, max_bytes: int) -> None:
        """Remove a group's events that are too old, and the oldest of streams that are too long.

        Args:
            group: The group.
            before_ms: Events before this time go. None: no event is too old.
            max_bytes: Most bytes of a stream. 0: no limit.
        """
        await self._database.write(
            lambda c: trim_group(c, group, before_ms=before_ms, max_bytes=max_bytes)
        )


def _insert_group(connection: Connection, group: LogGroup) -> None:
    try:
        connection.execute(
            log_groups.insert().values(
                name=group.name,
                created_at=group.created_at,
                retention_days=group.retention_days,
                kms_key_id=group.kms_key_id,
                group_class=group.group_class,
                tags=dict(group.tags),
            )
        )
    except IntegrityError:  # another control process was faster
        raise group_exists() from None


def _insert_stream(connection: Connection, group: str, name: str, now: datetime) -> int:
    statement = log_streams.insert().values(
        group_name=group, name=name, created_at=now, stored_bytes=0
    )
    try:
        key = connection.execute(statement).inserted_primary_key
    except IntegrityError:
        raise stream_exists() from None
    assert key is not None
    return int(key[0])


def _find_group(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(sa.select(log_groups).where(log_groups.c.name == name)).first()


def _find_stream(connection: Connection, group: str, name: str) -> StoredStream | None:
    row = connection.execute(
        sa.select(log_streams).where(log_streams.c.group_name == group, log_streams.c.name == name)
    ).first()
    return None if row is None else _load_stream(row)


def _add_bytes(connection: Connection, stream_id: int, count: int) -> None:
    connection.execute(
        log_streams.update()
        .where(log_streams.c.id == stream_id)
        .values(stored_bytes=log_streams.c.stored_bytes + count)
    )


def _size(message: str) -> int:
    return len(message.encode("utf-8", "replace")) + EVENT_OVERHEAD_BYTES


def _load_group(row: Row[Any]) -> LogGroup:
    return LogGroup(
        name=row.name,
        created_at=row.created_at,
        retention_days=row.retention_days,
        kms_key_id=row.kms_key_id,
        group_class=row.group_class,
        tags=row.tags,
    )


def _load_stream(row: Row[Any]) -> StoredStream:
    created_ms = int(row.created_at.timestamp() * 1000)
    return StoredStream(row.id, row.name, created_ms, row.stored_bytes)


def _load_event(stream: str, row: Row[Any]) -> LogEvent:
    position = row.timestamp_ms * _SERIALS + row.id
    return LogEvent(stream, row.timestamp_ms, row.ingested_ms, row.message, position, position + 1)
