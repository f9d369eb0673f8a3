"""Removes what is too old or too much of logs' files. Blocks: call it in a thread.

Instance hosts and their workers hold a lock on the logs that they have open.
"""

import os
import time
from pathlib import Path

from clary.log_times import cut, older_path, read_ends, times_path
from clary.logs.places import LogPlaces
from clary.logs.retention_rule import KeptFile, choose_removals
from clary.presence import is_locked


def trim_files(places: LogPlaces, group: str, *, before_ms: int | None, max_bytes: int) -> None:
    """Remove files of a group that are too old, and the oldest while it has too many bytes."""
    files = []
    for file in places.files(group):
        in_use = is_locked(file.path)
        for path, used in ((file.path, in_use), (Path(older_path(str(file.path))), False)):
            try:
                state = path.stat()
            except FileNotFoundError:
                continue
            ends = read_ends(str(path))
            written_ms = ends[1][1] if ends else state.st_mtime_ns // 1_000_000
            # One that was just made is about to be locked.
            used = used or time.time() - state.st_mtime < 60
            files.append(
                KeptFile(path=path, bytes=state.st_size, written_ms=written_ms, is_in_use=used)
            )
    for path in choose_removals(files, before_ms=before_ms, max_bytes=max_bytes):
        remove_file(path)
    directory = places.directory(group)
    if directory is not None:
        remove_empty(directory)


def delete_stream(path: Path) -> None:
    """Remove the log of a stream with all that belongs to it; empty it while it is written to."""
    older = Path(older_path(str(path)))
    remove_file(older)
    if is_locked(path):
        os.truncate(path, 0)
    else:
        remove_file(path)


def remove_file(path: Path) -> None:
    """Remove a log and its times."""
    path.unlink(missing_ok=True)
    Path(times_path(str(path))).unlink(missing_ok=True)


def remove_empty(directory: Path) -> None:
    """Remove a directory and those in it, as far as they are empty."""
    for path, _, _ in os.walk(directory, topdown=False):
        try:
            os.rmdir(path)
        except OSError:
            pass  # there is something in it


def cut_server_logs(directory: Path, max_bytes: int) -> None:
    """Cut the logs of the server's own processes that are too long."""
    for path in directory.glob("*.log"):
        if path.stat().st_size > max_bytes // 2:
            cut(str(path), max_bytes // 2)
