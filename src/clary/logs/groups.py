"""Log groups as CloudWatch Logs shows them: files of instances, and what clients put.

A stream is either a file that processes write (``places``, ``file_streams``) or lies in the
database (``store.logs``); readers here bring both together. File work is done in threads.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from clary.clock import Clock
from clary.errors import InvalidRequest
from clary.logs.file_streams import FileStream, Moved, Piece
from clary.logs.patterns import Matcher
from clary.logs.places import LogPlaces
from clary.logs.searching import (
    MAX_PAGE_BYTES,
    Found,
    Key,
    key_of,
    merge_found,
    search_files,
)
from clary.logs.upkeep import cut_server_logs, delete_stream, trim_files
from clary.resources.log_group import (
    MS_PER_DAY,
    LogEvent,
    LogGroup,
    LogStream,
    no_stream,
    stream_exists,
)
from clary.settings import LogSettings
from clary.store.logs import LogRecords, StoredStream, position_at

T = TypeVar("T")

MAX_SCANNED_ROWS = 2000
"""Most events of one stream of the database that it looks at."""

_FOR_EVER_MS = 10**14


class LogGroups:
    """All log groups.

    Args:
        records: What the database has of them.
        root: Directory of logs.
        settings: What is kept.
        clock: For ages.
    """

    def __init__(
        self, records: LogRecords, root: Path, settings: LogSettings, clock: Clock
    ) -> None:
        self.records = records
        self._root = root
        self._places = LogPlaces(root)
        self._settings = settings
        self._clock = clock

    # Writing ------------------------------------------------------------------------------

    async def append(self, group: str, stream: str, events: Sequence[tuple[int, str]]) -> None:
        """Write events for a feature of this server; group and stream are made where needed.

        Args:
            group: The group.
            stream: The stream; none that is a file.
            events: Time in milliseconds since 1970, and message; in order of time.
        """
        if events:
            await self.records.append(group, stream, events, create=True)

    async def put(self, group: str, stream: str, events: Sequence[tuple[int, str]]) -> None:
        """Write events for a client.

        Raises:
            NotFound: There is no such group or stream.
            InvalidRequest: An instance writes it.
        """
        await self.records.get_group(group)
        if self._has_file(group, stream):
            raise InvalidRequest(f"Log stream {stream} is the output of an instance.")
        await self.records.append(group, stream, events, create=False)

    async def create_stream(self, group: str, stream: str) -> None:
        """Make a stream.

        Raises:
            NotFound: There is no such group.
            AlreadyExists: There is one.
        """
        await self.records.get_group(group)
        if self._has_file(group, stream):
            raise stream_exists()
        await self.records.create_stream(group, stream)

    async def delete_stream(self, group: str, stream: str) -> None:
        """Remove a stream. One that an instance writes comes back with its next line.

        Raises:
            NotFound: There is no such group or stream.
        """
        await self.records.get_group(group)
        path = self._places.path(group, stream)
        if self._has_file(group, stream):
            assert path is not None
            await asyncio.to_thread(delete_stream, path)
        elif await self.records.find_stream(group, stream) is None:
            raise no_stream()
        await self.records.delete_stream(group, stream)

    async def delete_group(self, group: str) -> None:
        """Remove a group. That of an endpoint comes back with the next line of an instance.

        Raises:
            NotFound: There is none.
        """
        await self.records.get_group(group)

        def remove_files() -> None:
            for file in self._places.files(group):
                delete_stream(file.path)

        # Files first: they would bring the group back.
        await asyncio.to_thread(remove_files)
        await self.records.delete_group(group)

    # Reading ------------------------------------------------------------------------------

    async def streams(self, group: str, prefix: str = "") -> list[LogStream]:
        """Return the streams of a group in order of their names.

        Raises:
            NotFound: There is no such group.
        """
        await self.records.get_group(group)
        files = await self._in_thread(lambda: self._open_files(group, prefix))
        stored = await self.records.list_streams(group, prefix)
        streams = [*map(_describe, files), *await self.records.describe_streams(stored)]
        return sorted(streams, key=lambda stream: stream.name)

    async def stored_bytes(self, groups: Sequence[str]) -> dict[str, int]:
        """Return how many bytes groups have."""

        def measure() -> dict[str, int]:
            return {
                group: sum(_size(file.path) for file in self._places.files(group))
                for group in groups
            }

        files = await asyncio.to_thread(measure)
        rows = await self.records.stored_bytes(groups)
        return {group: files[group] + rows.get(group, 0) for group in groups}

    async def read(
        self,
        group: str,
        stream: str,
        *,
        start_ms: int | None,
        end_ms: int | None,
        limit: int,
        after: int | None = None,
        before: int | None = None,
        newest: bool = False,
    ) -> Piece:
        """Return events of one stream, in order.

        Args:
            group: The group.
            stream: The stream.
            start_ms: Only events of this time and later.
            end_ms: Only events before this time.
            limit: Most events.
            after: Only events from this position on.
            before: Only events before this position.
            newest: Whether to return the last of them instead of the first.

        Raises:
            NotFound: There is no such group or stream.
        """
        start_ms = self._first_ms(await self.records.get_group(group), start_ms)
        path = self._places.path(group, stream)
        if path is not None and self._has_file(group, stream):
            now_s, known = self._clock.now().timestamp(), path

            def read_file() -> Piece:
                file = FileStream(stream, known, now_s)
                start = max(file.position_at(start_ms), after or 0)
                stop = file.end if end_ms is None else file.position_at(end_ms)
                stop = min(stop, file.end if before is None else before)
                read = file.last if newest else file.first
                return read(start, stop, limit, MAX_PAGE_BYTES)

            return await self._in_thread(read_file)
        stored = await self.records.find_stream(group, stream)
        if stored is None:
            raise no_stream()
        start = max(position_at(start_ms), after or 0)
        stop = position_at(_FOR_EVER_MS if end_ms is None else end_ms)
        stop = stop if before is None else min(stop, before)
        events = await self.records.read(stored, start=start, stop=stop, limit=limit, newest=newest)
        if not events:
            place = min(start, stop) if not newest else stop
            if before is None and after is None:
                place = start
            return Piece([], place, place)
        return _within_bytes(events, newest=newest)

    async def search(
        self,
        group: str,
        *,
        names: Sequence[str] | None,
        prefix: str,
        matches: Matcher,
        start_ms: int | None,
        end_ms: int | None,
        limit: int,
        after: Key | None,
    ) -> Found:
        """Return events of a group that match, in order of time.

        Args:
            group: The group.
            names: Only these streams. None: all.
            prefix: Only streams whose names begin so.
            matches: What is wanted.
            start_ms: Only events of this time and later.
            end_ms: Only events before this time.
            limit: Most events.
            after: Where to go on: ``next`` of the page before.

        Raises:
            NotFound: There is no such group, or no stream of a name.
        """
        start_ms = self._first_ms(await self.records.get_group(group), start_ms)
        if after is not None:
            start_ms = max(start_ms, after[0])
        end_ms = _FOR_EVER_MS if end_ms is None else end_ms
        stored = [
            stream
            for stream in await self.records.list_streams(group, prefix)
            if names is None or stream.name in names
        ]

        def search_in_files() -> tuple[Found, set[str]]:
            files = [
                file
                for file in self._open_files(group, prefix)
                if names is None or file.name in names
            ]
            return search_files(files, matches, start_ms, end_ms, limit, after), {
                file.name for file in files
            }

        in_files, file_names = await self._in_thread(search_in_files)
        if names is not None and set(names) - file_names - {stream.name for stream in stored}:
            raise no_stream()
        in_rows = await self._search_rows(stored, matches, start_ms, end_ms, limit, after)
        return merge_found(in_files, in_rows, limit)

    async def _search_rows(
        self,
        streams: Sequence[StoredStream],
        matches: Matcher,
        start_ms: int,
        end_ms: int,
        limit: int,
        after: Key | None,
    ) -> Found:
        events: list[LogEvent] = []
        stops: list[Key] = []
        for stream in streams:
            rows = await self.records.read(
                stream,
                start=position_at(start_ms),
                stop=position_at(end_ms),
                limit=MAX_SCANNED_ROWS,
            )
            events += [row for row in rows if after is None or key_of(row) >= after]
            if len(rows) == MAX_SCANNED_ROWS:
                last = rows[-1]
                stops.append((last.timestamp_ms, last.stream, last.next_position))
        stop = min(stops, default=None)
        wanted = sorted(
            (e for e in events if (stop is None or key_of(e) < stop) and matches(e.message)),
            key=key_of,
        )
        if len(wanted) > limit:
            return Found(wanted[:limit], key_of(wanted[limit]))
        return Found(wanted, stop)

    # Upkeep -------------------------------------------------------------------------------

    async def sweep(self) -> None:
        """Remove what is too old or too much; bring back groups that are written to again."""
        await self.records.ensure_groups(await asyncio.to_thread(self._written_groups))
        for group in await self.records.list_groups():
            days = group.retention_days or self._settings.retention_days
            before_ms = self._now_ms() - days * MS_PER_DAY if days else None
            await self.records.trim(
                group=group.name, before_ms=before_ms, max_bytes=self._settings.max_stream_bytes
            )
            max_bytes = self._settings.max_group_bytes
            await asyncio.to_thread(
                trim_files, self._places, group.name, before_ms=before_ms, max_bytes=max_bytes
            )
        if self._settings.server_max_bytes:
            server_logs, most = self._root / "server", self._settings.server_max_bytes
            await asyncio.to_thread(cut_server_logs, server_logs, most)

    def _written_groups(self) -> list[str]:
        return [
            group
            for group in self._places.groups()
            if any(_size(file.path) for file in self._places.files(group))
        ]

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    def _first_ms(self, group: LogGroup, start_ms: int | None) -> int:
        """Return from when on there are events: what is too old is not shown, removed or not."""
        days = group.retention_days or self._settings.retention_days
        oldest = self._now_ms() - days * MS_PER_DAY if days else 0
        return max(start_ms or 0, oldest)

    def _has_file(self, group: str, stream: str) -> bool:
        path = self._places.path(group, stream)
        if path is None:
            return False
        try:
            return not FileStream(stream, path, 0.0).is_empty
        except OSError:
            return False

    def _open_files(self, group: str, prefix: str) -> list[FileStream]:
        now_s = self._clock.now().timestamp()
        opened = []
        for file in self._places.files(group):
            if file.stream.startswith(prefix):
                try:
                    stream = FileStream(file.stream, file.path, now_s)
                except FileNotFoundError:
                    continue  # removed meanwhile
                if not stream.is_empty:
                    opened.append(stream)
        return opened

    async def _in_thread(self, read: Callable[[], T]) -> T:
        """Read files in a thread; once more when one was cut under the reader."""
        try:
            return await asyncio.to_thread(read)
        except (Moved, FileNotFoundError):
            return await asyncio.to_thread(read)


def _within_bytes(events: list[LogEvent], *, newest: bool) -> Piece:
    kept: list[LogEvent] = []
    left = MAX_PAGE_BYTES
    for event in reversed(events) if newest else events:
        left -= len(event.message)
        if kept and left < 0:
            break
        kept.append(event)
    kept = kept[::-1] if newest else kept
    return Piece(kept, kept[0].position, kept[-1].next_position)


def _describe(file: FileStream) -> LogStream:
    return LogStream(
        name=file.name,
        created_ms=file.parts[0].started_ms,
        first_event_ms=file.first_event_ms,
        last_event_ms=file.last_event_ms,
        stored_bytes=sum(part.bytes for part in file.parts),
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
