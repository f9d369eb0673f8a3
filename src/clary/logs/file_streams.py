"""Log streams that processes write as files, read as events.

A line is an event; its position is that of its first byte among all that were ever written, its
time what ``clary.log_times`` noted. Both only grow, so that a time is found by halving.

What was not noted yet is not shown, unless the file has been still for a while: an event never
changes its time. Files may be cut while they are read; ``Moved`` says so, and one begins again.
"""

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clary.errors import Error
from clary.log_times import RECORD, older_path, times_path
from clary.resources.log_group import LogEvent

SETTLED_S = 3.0
"""A file that was written to no later than this before now has its end noted, or nobody does it."""

MAX_EVENT_BYTES = 256 * 1024
"""A longer line becomes several events, as on AWS."""

_BLOCK_BYTES = 64 * 1024
_TRIES = 20


class Moved(Error):
    """The file was cut, or removed, while it was read."""


class Part:
    """A file of a stream, as it was at one moment.

    Args:
        path: The file.
        now_s: Time since 1970.
        end: Position behind its last byte, for a part that was cut off.
    """

    def __init__(self, path: Path, now_s: float, end: int | None = None) -> None:
        self.path = path
        self.identity = _identity(path)
        state = path.stat()
        try:
            records = Path(times_path(str(path))).read_bytes()
        except FileNotFoundError:
            records = b""
        count = len(records) // RECORD.size
        pairs: list[tuple[int, int]] = list(RECORD.iter_unpack(records[: count * RECORD.size]))
        written_ms = state.st_mtime_ns // 1_000_000
        self.is_settled = now_s - state.st_mtime > SETTLED_S
        self.base = pairs[0][0] if pairs else 0
        if end is not None:
            self.base = end - state.st_size
        """Position of the first byte."""
        size_end = self.base + state.st_size
        if not pairs:
            pairs = [(self.base, written_ms)]
        if self.is_settled and pairs[-1][0] < size_end:
            pairs.append((size_end, max(written_ms, pairs[-1][1])))
        self._ends = [end for end, _ in pairs]
        self._times_ms = [time_ms for _, time_ms in pairs]
        self.end = min(self._ends[-1], size_end)
        """Position behind the last byte that is shown."""
        self.bytes = state.st_size
        self.started_ms = self._times_ms[0]
        self.written_ms = self._times_ms[-1]

    def time_ms(self, position: int) -> int:
        """Return when the byte at a position was written."""
        index = bisect_right(self._ends, position)
        return self._times_ms[min(index, len(self._times_ms) - 1)]

    def position_at(self, time_ms: int) -> int:
        """Return the position of the first byte that was written then or later."""
        index = bisect_left(self._times_ms, time_ms, lo=1)
        return max(self.base, min(self._ends[index - 1], self.end))

    def read(self, start: int, count: int) -> bytes:
        """Return bytes from a position on.

        Raises:
            Moved: They are not there any more.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(start - self.base)
                data = file.read(min(count, self.end - start))
        except FileNotFoundError as error:
            raise Moved(f"{self.path} is gone") from error
        if _identity(self.path) != self.identity or not data:
            raise Moved(f"{self.path} was cut")
        return data


@dataclass(frozen=True, slots=True)
class Piece:
    """Some events of a stream, and the positions that they lie between."""

    events: list[LogEvent]
    start: int
    stop: int
    """Where reading goes on: behind the last event, or where a line is still being written."""


class FileStream:
    """The events of one log file, as they are now.

    Args:
        name: Name of the stream.
        path: The file.
        now_s: Time since 1970.

    Raises:
        FileNotFoundError: There is none.
    """

    def __init__(self, name: str, path: Path, now_s: float) -> None:
        self.name = name
        self.parts = _open_parts(path, now_s)

    @property
    def is_empty(self) -> bool:
        """Whether it is what was left when the stream was deleted."""
        newest = self.parts[-1]
        return len(self.parts) == 1 and newest.bytes == 0 and newest.base > 0

    @property
    def end(self) -> int:
        """Position behind the last event."""
        return self.parts[-1].end

    @property
    def first_event_ms(self) -> int | None:
        """Time of the first event; None when there is none."""
        oldest = next((part for part in self.parts if part.end > part.base), None)
        return None if oldest is None else oldest.time_ms(oldest.base)

    @property
    def last_event_ms(self) -> int | None:
        """Time of the last event; None when there is none."""
        newest = next((part for part in reversed(self.parts) if part.end > part.base), None)
        return None if newest is None else newest.time_ms(newest.end - 1)

    def position_at(self, time_ms: int) -> int:
        """Return the position of what was written at a time or later."""
        for part in self.parts:
            position = part.position_at(time_ms)
            if position < part.end:
                return self._line_start(part, position)
        return self.end

    def _line_start(self, part: Part, position: int) -> int:
        """Return where the next line starts: a line belongs to the time of its first byte."""
        while part.base < position < part.end:
            data = part.read(position - 1, _BLOCK_BYTES)
            found = data.find(b"\n")
            if found >= 0:
                return position + found
            position += len(data)
        return position

    def events(self, start: int, stop: int) -> Iterator[LogEvent]:
        """Give the events between two positions, in order. ``start`` must be that of a line.

        Raises:
            Moved: See there.
        """
        for part in self.parts:
            is_last = part is self.parts[-1]
            position, rest = max(start, part.base), b""
            while position + len(rest) < part.end and position < stop:
                data = rest + part.read(position + len(rest), _BLOCK_BYTES)
                *lines, rest = data.split(b"\n")
                if len(rest) > MAX_EVENT_BYTES:
                    lines += [rest[:MAX_EVENT_BYTES]]
                    rest = rest[MAX_EVENT_BYTES:]
                    is_cut = True
                else:
                    is_cut = False
                for number, line in enumerate(lines):
                    length = len(line) + (0 if is_cut and number == len(lines) - 1 else 1)
                    if position >= stop:
                        return
                    yield from self._event(part, position, line, position + length)
                    position += length
            # Nobody ends this line any more, or nobody has for a while.
            if rest and position < stop and (not is_last or part.is_settled):
                yield from self._event(part, position, rest, position + len(rest))

    def _event(self, part: Part, position: int, line: bytes, stop: int) -> Iterator[LogEvent]:
        message = line.decode("utf-8", "replace").rstrip("\r")
        if message:
            time_ms = part.time_ms(position)
            yield LogEvent(self.name, time_ms, time_ms, message, position, stop)

    def first(self, start: int, stop: int, limit: int, max_bytes: int) -> Piece:
        """Return the first events between two positions."""
        found: list[LogEvent] = []
        start = max(start, self.parts[0].base)
        for event in self.events(start, stop):
            max_bytes -= len(event.message)
            if len(found) == limit or (found and max_bytes < 0):
                break
            found.append(event)
        if not found:
            return Piece([], start, start)
        return Piece(found, found[0].position, found[-1].next_position)

    def last(self, start: int, stop: int, limit: int, max_bytes: int) -> Piece:
        """Return the last events between two positions."""
        start = max(start, self.parts[0].base)
        window = _BLOCK_BYTES
        while True:
            begin = max(start, stop - window)
            if begin > start:
                part = next(p for p in reversed(self.parts) if p.base <= begin)
                begin = self._line_start(part, begin)
            found = list(self.events(begin, stop))
            if begin <= start or len(found) >= limit or stop - begin > max_bytes + MAX_EVENT_BYTES:
                break
            window *= 4
        kept: list[LogEvent] = []
        for event in reversed(found[-limit:]):
            max_bytes -= len(event.message)
            if kept and max_bytes < 0:
                break
            kept.append(event)
        if not kept:
            return Piece([], stop, stop)
        return Piece(kept[::-1], kept[-1].position, kept[0].next_position)


def _open_parts(path: Path, now_s: float) -> Sequence[Part]:
    for _ in range(_TRIES):
        before = _identity(path)
        newest = Part(path, now_s)
        parts = [newest]
        if newest.base > 0:
            try:
                parts.insert(0, Part(Path(older_path(str(path))), now_s, end=newest.base))
            except FileNotFoundError:
                pass  # what was before was deleted
        if _identity(path) == before:
            break
    return parts


def _identity(path: Path) -> int:
    """Return what changes when a log is cut; 0 while there are no times."""
    try:
        return os.stat(times_path(str(path))).st_ino
    except FileNotFoundError:
        return 0
