"""Log files of instances: find them, read their ends, and follow them as they grow.

An instance's host appends to ``<root>/<endpoint>/<variant>/<instance>.log``; the containers of a
pipeline each to ``<root>/<endpoint>/<variant>/<instance>/<container>.log``. Readers here hold a
bounded part of a file in memory, however long it or its lines are, and stand a file that is cut
back, replaced or removed under them.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from clary.errors import InvalidRequest
from clary.log_times import older_path
from clary.resources.names import is_endpoint_name

MAX_LINES = 100_000
"""Most lines that ``read_end`` returns."""

MAX_TAIL_BYTES = 16 * 1024 * 1024
"""Most bytes that ``read_end`` reads: what lies further back is not returned."""

MAX_LINE_BYTES = 64 * 1024
"""A longer line is passed on in pieces while it is followed."""

MAX_READ_BYTES = 1024 * 1024
"""Most bytes that a follower reads at a time."""

_BLOCK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class LogFile:
    """The log of one instance, or of one of its several containers."""

    variant: str
    instance_id: str
    path: Path
    container: str = ""
    """Empty: the instance's own log."""

    @property
    def stream(self) -> str:
        """What its lines are told apart by: instance, or ``<instance>/<container>``."""
        return f"{self.instance_id}/{self.container}" if self.container else self.instance_id


def log_path(root: Path, endpoint: str, variant: str, instance_id: str) -> Path:
    """Return where an instance's log lies under the directory of endpoints' logs.

    Raises:
        InvalidRequest: A part is no name, so that the path would lead elsewhere.
    """
    for part in (endpoint, variant, instance_id):
        if not is_endpoint_name(part):
            raise InvalidRequest(f"{part!r} is no name of an endpoint, a variant or an instance.")
    return root / endpoint / variant / f"{instance_id}.log"


def find_log_files(
    root: Path, endpoint: str, *, variant: str | None = None, instance_id: str | None = None
) -> list[LogFile]:
    """Return the logs of an endpoint's instances, those of past ones included.

    Args:
        root: Directory of endpoints' logs.
        endpoint: Name of the endpoint; it need not exist any more.
        variant: Only logs of this variant.
        instance_id: Only the log of this instance.

    Returns:
        Logs in the order in which they were last written to.

    Raises:
        InvalidRequest: A name is none.
    """
    log_path(root, endpoint, variant or "any", instance_id or "any")
    found: list[tuple[float, LogFile]] = []
    logs = (root / endpoint).glob(f"{variant or '*'}/{instance_id or '*'}.log")
    container_logs = (root / endpoint).glob(f"{variant or '*'}/{instance_id or '*'}/*.log")
    for log in (
        *(LogFile(path.parent.name, path.stem, path) for path in logs),
        *(
            LogFile(path.parent.parent.name, path.parent.name, path, path.stem)
            for path in container_logs
        ),
    ):
        try:
            written_at = log.path.stat().st_mtime
        except FileNotFoundError:  # removed between listing and looking
            continue
        found.append((written_at, log))
    return [log for _, log in sorted(found, key=lambda item: (item[0], item[1].path))]


@dataclass(frozen=True, slots=True)
class End:
    """The end of a file, as it was read."""

    lines: list[bytes]
    """Its last whole lines, without their ends."""

    rest: bytes
    """What stands behind the last line end: a line that is still being written."""

    position: int
    """Where ``rest`` starts, in bytes: where to follow the file from."""


def read_end(path: Path, lines: int) -> End:
    """Return the end of a log; an empty one when it does not exist.

    Args:
        path: The file. What was cut off it (``clary.log_times``) belongs to the log.
        lines: How many whole lines, at most ``MAX_LINES``.
    """
    lines = min(lines, MAX_LINES)
    end = _read_end(path, lines)
    missing = lines - len(end.lines)
    if missing > 0:
        older = _read_end(Path(older_path(str(path))), missing)
        cut_off = [*older.lines, *([older.rest] if older.rest else [])][-missing:]
        end = End([*cut_off, *end.lines], end.rest, end.position)
    return end


def _read_end(path: Path, lines: int) -> End:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return End([], b"", 0)
    with file:
        size = position = file.seek(0, os.SEEK_END)
        blocks: list[bytes] = []
        line_ends = 0
        # One more end than lines: the one before the first line that is wanted.
        while position > 0 and line_ends <= lines and size - position < MAX_TAIL_BYTES:
            start = max(0, position - _BLOCK_BYTES)
            file.seek(start)
            blocks.append(file.read(position - start))
            line_ends += blocks[-1].count(b"\n")
            position = start
    *whole, rest = b"".join(reversed(blocks)).split(b"\n")
    if position > 0 and whole:
        whole = whole[1:]  # its beginning was not read
    return End(whole[-lines:] if lines > 0 else [], rest, size - len(rest))


class Follower:
    """Reads what is appended to a file.

    Args:
        path: The file; it may come into being later.
        position: Where to start, in bytes.
    """

    def __init__(self, path: Path, position: int = 0) -> None:
        self._path = path
        self._position = position
        self._inode: int | None = None
        self._rest = b""

    def read_lines(self) -> list[bytes]:
        """Return whole lines that have come since the last call, without their ends.

        At most ``MAX_READ_BYTES`` of them: call again while there are any. A file that was cut back
        or replaced is read from its start.
        """
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return []
        with file:
            state = os.fstat(file.fileno())
            is_another = self._inode is not None and state.st_ino != self._inode
            self._inode = state.st_ino
            if is_another or state.st_size < self._position:
                self._position, self._rest = 0, b""
            file.seek(self._position)
            data = file.read(MAX_READ_BYTES)
        self._position += len(data)
        return self._cut(data) if data else []

    def _cut(self, data: bytes) -> list[bytes]:
        *lines, rest = (self._rest + data).split(b"\n")
        while len(rest) > MAX_LINE_BYTES:
            lines.append(rest[:MAX_LINE_BYTES])
            rest = rest[MAX_LINE_BYTES:]
        self._rest = rest
        return lines
