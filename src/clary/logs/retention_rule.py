"""Which files of a log group have to go. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """A file of a group, as it is now."""

    path: Path
    bytes: int
    written_ms: int
    """Time of its last byte."""

    is_in_use: bool
    """Whether a process may write to it."""


def choose_removals(
    files: Sequence[KeptFile], *, before_ms: int | None, max_bytes: int
) -> list[Path]:
    """Return the files that are too old, or too much.

    Args:
        files: All files of one group.
        before_ms: What was last written before this time goes, if nobody writes to it any more.
            None: nothing is too old.
        max_bytes: Most bytes of all files together; beyond it those that nobody writes to go,
            oldest first. 0: no limit.
    """
    idle = sorted((f for f in files if not f.is_in_use), key=lambda f: (f.written_ms, f.path))
    total = sum(file.bytes for file in files)
    removals = []
    for file in idle:
        is_too_old = before_ms is not None and file.written_ms < before_ms
        if is_too_old or (max_bytes and total > max_bytes):
            removals.append(file.path)
            total -= file.bytes
    return removals
