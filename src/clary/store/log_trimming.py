"""Removes events of clients' log streams that are too old, or too much."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from clary.store.schema import log_events, log_streams


def trim_group(
    connection: Connection, group: str, *, before_ms: int | None, max_bytes: int
) -> None:
    """Trim all streams of a group; see ``LogRecords.trim``."""
    streams = connection.execute(
        sa.select(log_streams).where(
            log_streams.c.group_name == group, log_streams.c.stored_bytes > 0
        )
    ).all()
    for stream in streams:
        if before_ms is not None:
            _remove_events(connection, stream.id, before_ms, 0)
        if max_bytes and stream.stored_bytes > max_bytes:
            _shorten(connection, stream.id, max_bytes // 2)


def _remove_events(connection: Connection, stream_id: int, time_ms: int, serial: int) -> None:
    """Remove events before a place, and count the stream's bytes anew."""
    columns = log_events.c
    place = sa.tuple_(columns.timestamp_ms, columns.id)
    removed = connection.execute(
        log_events.delete().where(
            columns.stream_id == stream_id,
            place < sa.tuple_(sa.literal(time_ms), sa.literal(serial)),
        )
    )
    if removed.rowcount:
        left = connection.scalar(
            sa.select(sa.func.sum(columns.size_bytes)).where(columns.stream_id == stream_id)
        )
        connection.execute(
            log_streams.update()
            .where(log_streams.c.id == stream_id)
            .values(stored_bytes=int(left or 0))
        )


def _shorten(connection: Connection, stream_id: int, max_bytes: int) -> None:
    """Remove the oldest events of a stream, so that the rest has at most ``max_bytes``."""
    columns = log_events.c
    newer = sa.func.sum(columns.size_bytes).over(
        order_by=(columns.timestamp_ms.desc(), columns.id.desc())
    )
    ranked = (
        sa.select(columns.timestamp_ms, columns.id, newer.label("newer"))
        .where(columns.stream_id == stream_id)
        .subquery()
    )
    first_too_much = connection.execute(
        sa.select(ranked.c.timestamp_ms, ranked.c.id)
        .where(ranked.c.newer > max_bytes)
        .order_by(ranked.c.timestamp_ms.desc(), ranked.c.id.desc())
        .limit(1)
    ).first()
    if first_too_much is not None:
        time_ms, serial = first_too_much
        _remove_events(connection, stream_id, time_ms, serial + 1)
