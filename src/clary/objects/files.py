"""Files that hold the bytes of objects.

A file gets its final, random name in one of 256 directories by a rename, once its bytes are on the
disk; only then a row of the database may name it. Keys never reach the file system. What a crash
leaves behind (files that no row names, drafts) is removed at the start. Readers keep a replaced
object: an open file outlives its name.

All functions here block; they are called in threads.
"""

import contextlib
import errno
import logging
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from clary.errors import ConfigurationError
from clary.objects.faults import disk_full

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_MAX_VECTOR = 512
"""Most buffers in one write; the system's own limit is 1024."""

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def telling_full_disk() -> Iterator[None]:
    """Say in S3's way that there is no room.

    Raises:
        Fault: ``InsufficientStorage``.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise disk_full() from error
        raise


class ContentFiles:
    """The directory of all files.

    Args:
        directory: Where they lie; made when it is not there.

    Raises:
        ConfigurationError: It cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self._content = directory / "content"
        self._drafts = directory / "drafts"
        try:
            for shard in range(256):
                (self._content / f"{shard:02x}").mkdir(parents=True, exist_ok=True)
            self._drafts.mkdir(exist_ok=True)
            for draft in os.scandir(self._drafts):
                os.unlink(draft.path)
            # A directory that was made before the file system became read-only shows it here.
            probe = self._drafts / secrets.token_hex(16)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ConfigurationError(
                f"the data directory of the embedded S3, {directory}, cannot be written: {error}"
            ) from error

    def create(self) -> "Draft":
        """Return a new, empty file that is not in its place yet."""
        name = secrets.token_hex(16)
        return Draft(self._drafts / name, self._path(name))

    def link(self, name: str) -> str:
        """Give a file a second name, durably; return it. The bytes are shared.

        Raises:
            FileNotFoundError: The file has been removed.
        """
        copy = secrets.token_hex(16)
        path = self._path(copy)
        with telling_full_disk():
            os.link(self._path(name), path)
            sync_directory(path.parent)
        return copy

    def open(self, name: str) -> int:
        """Return a descriptor for reading.

        Raises:
            FileNotFoundError: The file has been removed.
        """
        return os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files. Those that are gone already are fine; the rest waits for the next start."""
        for name in names:
            try:
                self._path(name).unlink(missing_ok=True)
            except OSError:
                _log.exception("file %s of a removed object stays until the next start", name)

    def sweep(self, known: set[str]) -> int:
        """Remove all files but these; return how many. Call before anything is written."""
        orphans = [
            file.name
            for shard in os.scandir(self._content)
            if shard.is_dir()
            for file in os.scandir(shard.path)
            if file.name not in known
        ]
        self.remove(orphans)
        return len(orphans)

    def _path(self, name: str) -> Path:
        return self._content / name[:2] / name


class Draft:
    """A file that is being written."""

    def __init__(self, path: Path, final_path: Path) -> None:
        self._path = path
        self._final_path = final_path
        with telling_full_disk():
            self._descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )

    @property
    def name(self) -> str:
        return self._final_path.name

    def write(self, buffers: Sequence[bytes]) -> None:
        """Append bytes, without joining them first.

        Raises:
            Fault: ``InsufficientStorage``.
        """
        with telling_full_disk():
            for start in range(0, len(buffers), _MAX_VECTOR):
                _write_all(self._descriptor, buffers[start : start + _MAX_VECTOR])

    def flush(self) -> None:
        """Wait until the disk has what is written so far.

        Raises:
            Fault: ``InsufficientStorage``.
        """
        with telling_full_disk():
            os.fdatasync(self._descriptor)

    def keep(self) -> str:
        """Put the file in its place, durably; return its name.

        Raises:
            Fault: ``InsufficientStorage``.
        """
        with telling_full_disk():
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
            self._path.rename(self._final_path)
            sync_directory(self._final_path.parent)
        return self.name

    def discard(self) -> None:
        """Remove the file, wherever it is."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._path.unlink(missing_ok=True)
        self._final_path.unlink(missing_ok=True)


def _write_all(descriptor: int, buffers: Sequence[bytes]) -> None:
    expected = sum(map(len, buffers))
    written = os.writev(descriptor, buffers)
    if written < expected:
        # Rare: the disk is nearly full (the next write says so), or a signal came.
        rest = memoryview(b"".join(buffers))[written:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
