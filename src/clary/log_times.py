"""When the lines of a growing log were written, and how the log is cut when it is too long.

Processes write to their log as they like; nothing stands between them and the file. Beside
``x.log`` lies ``x.log.times``: records of two numbers, ``(end, time)``, which say that the bytes
before ``end`` were written by then. Times are milliseconds since 1970; ends never go back, for they
are counted from the first byte that was ever written: the first record says where the file starts.

A log that is too long is cut to nothing, since its writers hold it open; its last lines are copied
to ``x.log.1`` first, with the times in ``x.log.1.times``. That part ends where the new one starts.
What is written between the copy's end and the cut is lost: microseconds.

Standard library only: instance hosts note times with it, control reads them.
"""

import os
import struct
from typing import Callable, Optional, Tuple

RECORD = struct.Struct("<QQ")
"""End and time."""


def times_path(log: str) -> str:
    """Return where a log's times lie."""
    return log + ".times"


def older_path(log: str) -> str:
    """Return where the part lies that was cut off a log."""
    return log + ".1"


class LogTimes:
    """Notes the times of one log, and cuts it.

    Args:
        path: The log.
        max_bytes: Most bytes of the log and what was cut off it together. 0: no limit.
    """

    def __init__(self, path: str, max_bytes: int = 0) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._file = -1
        self._base = self._end = self._time_ms = 0
        self._resume()

    def note(self) -> bool:
        """Note what was written since the last time; cut the log if it is too long.

        Returns:
            Whether anything was written.

        Raises:
            OSError: The log is gone, or the disk is full.
        """
        state = os.stat(self._path)
        end = self._base + state.st_size
        if end < self._end:  # emptied by somebody
            self._begin(self._end, state.st_mtime_ns)
            end = self._base + state.st_size
        has_grown = end > self._end
        if has_grown:
            self._append(end, state.st_mtime_ns)
        if self._max_bytes and state.st_size > self._max_bytes // 2:
            self._cut()
        return has_grown

    def close(self) -> None:
        """Note no more."""
        os.close(self._file)

    def _resume(self) -> None:
        """Go on where another life ended, or begin."""
        records = read_ends(self._path)
        if records is None:
            state = os.stat(self._path)
            self._begin(0, state.st_mtime_ns)
            return
        (self._base, _), (self._end, self._time_ms) = records
        self._file = open_to_append(times_path(self._path))

    def _begin(self, base: int, time_ns: int) -> None:
        """Start a new file of times, in one step for those who read."""
        partial = times_path(self._path) + ".partial"
        file = open_to_append(partial, os.O_TRUNC)
        if self._file >= 0:
            os.close(self._file)
        self._file = file
        self._base = base
        self._append(base, time_ns)
        os.replace(partial, times_path(self._path))

    def _append(self, end: int, time_ns: int) -> None:
        # Clocks are set back now and then; the order of lines is not.
        time_ms = max(time_ns // 1_000_000, self._time_ms)
        os.write(self._file, RECORD.pack(end, time_ms))
        self._end, self._time_ms = end, time_ms

    def _cut(self) -> None:
        length = cut(self._path, self._max_bytes // 2, before_cut=self._keep_times)
        self._begin(self._base + length, os.stat(self._path).st_mtime_ns)

    def _keep_times(self, length: int) -> None:
        if self._base + length > self._end:
            self._append(self._base + length, os.stat(self._path).st_mtime_ns)
        os.replace(times_path(self._path), times_path(older_path(self._path)))


def cut(path: str, keep_bytes: int, before_cut: Optional[Callable[[int], None]] = None) -> int:
    """Copy the end of a log away and empty it; return how long it was.

    Args:
        path: The log. Its writers must append, so that they go on at the new end.
        keep_bytes: Most bytes to copy: whole lines where there are any.
        before_cut: Called with the length once the copy is in place.
    """
    older = older_path(path)
    with open(path, "r+b") as log, open(older + ".partial", "wb") as copy:
        position = max(log.seek(0, os.SEEK_END) - keep_bytes, 0)
        if position:
            log.seek(position)
            position += len(log.readline(keep_bytes))
        while True:
            count = os.sendfile(copy.fileno(), log.fileno(), position, 1 << 24)
            if count == 0:
                break
            position += count
        os.replace(older + ".partial", older)
        if before_cut is not None:
            before_cut(position)
        os.ftruncate(log.fileno(), 0)
    return position


def read_ends(log: str) -> Optional[Tuple[Tuple[int, int], Tuple[int, int]]]:
    """Return the first and the last record of a log's times; None when there are none."""
    try:
        with open(times_path(log), "rb") as file:
            count = os.fstat(file.fileno()).st_size // RECORD.size
            if count == 0:
                return None
            first = file.read(RECORD.size)
            file.seek((count - 1) * RECORD.size)
            last = file.read(RECORD.size)
        (base, time_ms), (end, last_ms) = RECORD.unpack(first), RECORD.unpack(last)
    except (OSError, struct.error):
        return None
    return (base, time_ms), (end, last_ms)


def open_to_append(path: str, more: int = 0) -> int:
    """Open a log, or what belongs to it, to write at its end; make it and its directory if need be.

    Empty directories of logs are removed by the upkeep at any moment, also between the making of a
    directory and of the first file in it: then it is made once more.

    Args:
        path: The file.
        more: Further flags of ``os.open``.

    Returns:
        A descriptor, which children do not inherit.

    Raises:
        OSError: It cannot be made.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | more
    for _ in range(3):
        try:
            return os.open(path, flags, 0o644)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
    return os.open(path, flags, 0o644)
