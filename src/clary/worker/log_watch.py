"""An instance's logs: in use as long as somebody may write, their times noted, and cut in time."""

import fcntl
from typing import List

from clary.log_times import LogTimes, open_to_append

NOTE_S = 0.25
"""How often times are noted while there are lines."""

NOTE_QUIET_S = 1.0
"""The same while there are none. A first line is then known that much later; its time is right, for
the file system has it."""


class LogWatch:
    """Notes the times of some logs.

    Args:
        logs: Their paths.
        max_bytes: Most bytes of each. 0: no limit.
    """

    def __init__(self, logs: List[str], max_bytes: int) -> None:
        try:
            self._logs = [LogTimes(path, max_bytes) for path in logs]
        except OSError:
            self._logs = []  # the disk is full: lines get the time at which they are read
        self.next_at = 0.0
        """When to note again, in seconds on the monotonic clock."""

    def note_if_due(self, now: float) -> None:
        """Note, unless it is too early."""
        if now >= self.next_at:
            self.next_at = now + (NOTE_S if self.note() else NOTE_QUIET_S)

    def note(self) -> bool:
        """Note what was written by now; return whether anything was."""
        has_grown = False
        for log in self._logs:
            try:
                has_grown = log.note() or has_grown
            except OSError:
                pass  # the disk is full, or somebody removed the log: models go on
        return has_grown


def open_log(path: str) -> int:
    """Open a log, and mark it as in use until this process and all its workers have ended."""
    log = open_to_append(path)
    try:
        fcntl.flock(log, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        pass  # somebody looks whether it is in use, or the file system has no locks
    return log
