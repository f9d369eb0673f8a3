"""From a directory to a model archive, as SageMaker lays it out.

``layout`` decides what goes where (a function of the directory's listing); ``pack`` writes it. The
same files give the same bytes, so that an archive's hash is its identity: what is in S3 already is
not sent again, and an environment that is built already is found.

    DIR/inference.py, DIR/*.py, DIR/requirements.txt, packages   →  code/...
    DIR/model.joblib and whatever else                           →  at the root
"""

import fnmatch
import gzip
import hashlib
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from clary.cli.failure import CommandFailed

IGNORED_DIRECTORIES = frozenset(
    {
        *(".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__"),
        *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints", ".idea", ".vscode"),
    }
)
IGNORED_FILES = ("*.pyc", ".DS_Store", "*.swp", "*~")

CODE_FILES = ("*.py", "requirements.txt")

# Weights hardly shrink, and packing must not take longer than loading: the fastest level.
COMPRESSION_LEVEL = 1
_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive."""

    name: str
    """Path in the archive, with ``/``."""

    source: Path
    """Where its bytes are."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A packed archive on disk."""

    file: Path
    digest: str
    """SHA-256 of the file, in hexadecimal."""

    size: int
    """Bytes of the file."""

    members: int | None
    """How many files are in it; None for an archive that was there already."""


def layout(directory: Path, *, own_server: bool = False) -> list[Member]:
    """Decide which files of a directory go where in its archive.

    Args:
        directory: The user's directory.
        own_server: It holds a server of the user's own: all of it is code.

    Returns:
        Members sorted by name.

    Raises:
        CommandFailed: There is nothing to pack, or something that is no file.
    """
    files = sorted(_files(directory, directory, frozenset()))
    if not files:
        raise CommandFailed(f"{directory} holds no files to deploy")
    if own_server:
        names = {path: f"code/{path}" for path in files}
    elif any(path.parts[0] == "code" for path in files):
        names = {path: str(path) for path in files}
    else:
        names = {path: f"code/{path}" if _is_code(directory, path) else str(path) for path in files}
    return sorted(
        (Member(name, directory / path) for path, name in names.items()), key=lambda m: m.name
    )


def pack(
    members: list[Member], target: Path, progress: Callable[[int], None] | None = None
) -> Archive:
    """Write members to ``target``; equal members give equal bytes.

    Args:
        members: What ``layout`` said.
        target: File to write; replaced when it exists.
        progress: Told of the bytes of each piece that was read.
    """
    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", COMPRESSION_LEVEL, file, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for member in members:
            try:
                with member.source.open("rb") as source:
                    tar.addfile(_header(member, source), _Counted(source, progress))
            except OSError as error:
                raise CommandFailed(f"{member.source} cannot be packed: {error}") from error
    return _described(target, len(members))


def existing_archive(file: Path) -> Archive:
    """Describe an archive that the user packed.

    Raises:
        CommandFailed: It is no gzip file.
    """
    try:
        with file.open("rb") as source:
            magic = source.read(2)
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read: {error.strerror}", 2) from error
    if magic != b"\x1f\x8b":
        raise CommandFailed(f"{file} is neither a directory nor a .tar.gz archive", 2)
    return _described(file, None)


def total_size(members: list[Member]) -> int:
    """Bytes of all members, before compression."""
    return sum(member.source.stat().st_size for member in members)


def _files(root: Path, directory: Path, above: frozenset[str]) -> list[PurePosixPath]:
    """List files by path under ``root``. Links are followed: an archive may not hold any."""
    here = os.path.realpath(directory)
    if here in above:
        raise CommandFailed(f"{directory} links to a directory that it lies in")
    found: list[PurePosixPath] = []
    with os.scandir(directory) as listing:
        entries = list(listing)
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir():
            # Any virtual environment, whatever its name, is made anew on the server.
            if entry.name not in IGNORED_DIRECTORIES and not (path / "pyvenv.cfg").exists():
                found += _files(root, path, above | {here})
        elif entry.is_file():
            if not any(fnmatch.fnmatch(entry.name, pattern) for pattern in IGNORED_FILES):
                found.append(PurePosixPath(path.relative_to(root).as_posix()))
        else:
            kind = "a broken link" if entry.is_symlink() else "no regular file"
            raise CommandFailed(f"{path} is {kind} and cannot be packed")
    return found


def _is_code(directory: Path, path: PurePosixPath) -> bool:
    """Whether a file belongs to the handler: a module, its requirements, or in a package."""
    top = path.parts[0]
    if len(path.parts) > 1:
        return (directory / top / "__init__.py").exists()
    return any(fnmatch.fnmatch(top, pattern) for pattern in CODE_FILES)


def _header(member: Member, source: BinaryIO) -> tarfile.TarInfo:
    """Describe a file without anything that differs between machines or moments."""
    status = os.fstat(source.fileno())
    header = tarfile.TarInfo(member.name)
    header.size = status.st_size
    header.mode = 0o755 if status.st_mode & 0o100 else 0o644
    return header


class _Counted:
    """A file that tells how much of it has been read."""

    def __init__(self, file: BinaryIO, progress: Callable[[int], None] | None) -> None:
        self._file = file
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        if self._progress is not None:
            self._progress(len(piece))
        return piece


def _described(file: Path, members: int | None) -> Archive:
    digest = hashlib.sha256()
    with file.open("rb") as source:
        while piece := source.read(_PIECE):
            digest.update(piece)
    return Archive(file, digest.hexdigest(), file.stat().st_size, members)
