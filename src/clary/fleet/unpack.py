"""Unpacks model archives that nobody has checked.

An archive comes from a user, and the unpacked files are read by processes of the server's account:
a name that leads out of the directory, a link, a device or ten terabytes of zeros must stop it,
early and with nothing left but a reason that names the member or the limit.

The gzip stream is read forward only, in pieces, and counted as it comes; ``tarfile`` sees it
through ``GzipReader``. Blocking: callers use a thread.
"""

import errno
import os
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from clary.errors import PermanentError

GZIP_MAGIC = b"\x1f\x8b"

_CHUNK_BYTES = 1024 * 1024
_RATIO_FROM_BYTES = 100 * 1000 * 1000
_MAX_READ_BYTES = 4 * 1024 * 1024
"""Most bytes that tarfile may ask for at once. It reads extended headers whole, whatever size they
claim, so that without this an archive could fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackLimits:
    """How much an archive may unpack to (``fleet.max_artifact_*`` of the settings)."""

    max_bytes: int
    max_files: int
    max_ratio: int


class BadArchive(PermanentError):
    """The archive cannot be taken. The message names the member or the limit, not the archive."""


class GzipReader:
    """A forward-only file of what a gzip stream holds, which stops bombs.

    Args:
        raw: The compressed file, at its start.
        limits: Bytes and compression ratio at which it stops.
        check: Called for each piece; raises to stop (a time limit, a cancelled deployment).
    """

    def __init__(self, raw: BinaryIO, limits: UnpackLimits, check: Callable[[], None]) -> None:
        self._raw = raw
        self._limits = limits
        self._check = check
        self._inflate = zlib.decompressobj(wbits=31)
        self._input = b""
        self._ready = bytearray()
        self._position = 0
        self._bytes_in = 0
        self._bytes_out = 0
        self._at_end = False

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        """Skip forward.

        Raises:
            BadArchive: The stream cannot be read, or is over a limit.
        """
        if position < self._position:
            raise BadArchive("its headers point backwards")
        while self._position < position:
            if not self.read(min(position - self._position, _CHUNK_BYTES)):
                break
        return self._position

    def read(self, size: int) -> bytes:
        """Return so many bytes, fewer only at the end.

        Raises:
            BadArchive: The stream cannot be read, or is over a limit.
        """
        if not 0 <= size <= _MAX_READ_BYTES:
            raise BadArchive(f"a header of {size} bytes is over the limit of {_MAX_READ_BYTES}")
        while len(self._ready) < size and not self._at_end:
            self._inflate_more()
        data = bytes(self._ready[:size])
        del self._ready[:size]
        self._position += len(data)
        return data

    def drain(self) -> None:
        """Read what lies after the archive's end, so that the whole stream has been checked."""
        while self.read(_CHUNK_BYTES):
            pass

    def _inflate_more(self) -> None:
        self._check()
        if not self._input:
            self._input = self._raw.read(_CHUNK_BYTES // 4)
            self._bytes_in += len(self._input)
            if not self._input:
                if not self._inflate.eof:
                    raise BadArchive("it is truncated: the gzip stream ends in the middle")
                self._at_end = True
                return
        if self._inflate.eof:
            # Several gzip members in a row are one stream; zeros after the last are padding.
            self._input = self._input.lstrip(b"\0")
            if not self._input:
                return
            if not GZIP_MAGIC.startswith(self._input[:2]):
                self._at_end = True
                return
            self._inflate = zlib.decompressobj(wbits=31)
        try:
            piece = self._inflate.decompress(self._input, _CHUNK_BYTES)
        except zlib.error as error:
            raise BadArchive(f"its gzip stream is damaged ({error})") from error
        self._input = self._inflate.unconsumed_tail or self._inflate.unused_data
        self._bytes_out += len(piece)
        self._ready += piece
        if self._bytes_out > self._limits.max_bytes + _CHUNK_BYTES:
            raise BadArchive(
                f"it unpacks to more than {self._limits.max_bytes} bytes "
                "(limit fleet.max_artifact_bytes)"
            )
        ratio = self._bytes_out / max(1, self._bytes_in - len(self._input))
        if self._bytes_out > _RATIO_FROM_BYTES and ratio > self._limits.max_ratio:
            raise BadArchive(
                f"it holds more than {self._limits.max_ratio} bytes for each compressed byte, as "
                "gzip bombs do (limit fleet.max_compression_ratio)"
            )


def unpack(
    archive: Path,
    directory: Path,
    limits: UnpackLimits,
    *,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Unpack a ``.tar.gz`` into an empty directory.

    Files are written without write permission (execute is kept), directories as the account's
    default; owners and times in the archive are ignored.

    Args:
        archive: The archive. Whether it is one is seen by its content, not by its name.
        directory: Where to; exists and is empty. On an error the caller removes it.
        limits: What the archive may unpack to.
        check: Called every megabyte or so; raises to stop.

    Raises:
        BadArchive: It is no archive, is damaged, holds something that is refused, or is over a
            limit.
        OSError: The disk is full or cannot be written.
    """
    with archive.open("rb") as raw:
        if raw.read(2) != GZIP_MAGIC:
            raise BadArchive("it is not a gzip-compressed tar archive (.tar.gz)")
        raw.seek(0)
        stream = GzipReader(raw, limits, check)
        try:
            with tarfile.open(fileobj=stream, mode="r:", errorlevel=2) as tar:  # type: ignore[call-overload]
                _extract_all(tar, directory, limits)
            stream.drain()
            if stream.tell() % tarfile.BLOCKSIZE:
                raise BadArchive("it is truncated: its tar part ends in the middle of a block")
        except tarfile.TarError as error:
            raise BadArchive(f"its tar part is damaged ({error})") from error
        except (ValueError, OverflowError, UnicodeError, RecursionError) as error:
            # tarfile lets these escape for some malformed headers.
            raise BadArchive(f"its tar part is damaged ({type(error).__name__})") from error


def _extract_all(tar: tarfile.TarFile, directory: Path, limits: UnpackLimits) -> None:
    total = 0
    made = {directory}
    for files, member in enumerate(tar, 1):
        path = _place(member, directory)
        total += member.size
        if total > limits.max_bytes:
            raise BadArchive(
                f"with member {_shown(member.name)} it unpacks to more than "
                f"{limits.max_bytes} bytes (limit fleet.max_artifact_bytes)"
            )
        try:
            for folder in reversed([path if member.isdir() else path.parent, *path.parents]):
                if folder not in made and folder.is_relative_to(directory):
                    folder.mkdir(exist_ok=True)
                    made.add(folder)
            if files + len(made) > limits.max_files + 1:
                raise BadArchive(
                    f"with member {_shown(member.name)} it holds more than "
                    f"{limits.max_files} files and directories (limit fleet.max_artifact_files)"
                )
            if member.isreg():
                _extract_file(tar, member, path)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
                raise
            raise BadArchive(
                f"member {_shown(member.name)} cannot be written: {error.strerror}"
            ) from error
        # tarfile remembers every member; nothing here asks for them again.
        tar.members.clear()  # type: ignore[attr-defined]


def _place(member: tarfile.TarInfo, directory: Path) -> Path:
    """Return where a member goes.

    Raises:
        BadArchive: It may not be there at all.
    """
    name = member.name
    shown = _shown(name)
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/"):
        raise BadArchive(f"member {shown} has an absolute path")
    if ".." in parts:
        raise BadArchive(f"member {shown} leads out of the archive")
    if member.issym() or member.islnk():
        raise BadArchive(
            f"member {shown} is a link (to {_shown(member.linkname)}); pack the file itself, for "
            "instance with tar --dereference"
        )
    if member.issparse():
        raise BadArchive(f"member {shown} is a sparse file; pack without tar's --sparse")
    if not (member.isreg() or member.isdir()):
        raise BadArchive(f"member {shown} is a device, a pipe or of an unknown kind")
    if "\0" in name or (member.isreg() and not parts):
        raise BadArchive(f"member {shown} has no usable name")
    return directory.joinpath(*parts)


def _shown(name: str) -> str:
    """Return a member's name for a message: quoted, and no longer than a line."""
    return repr(name if len(name) <= 100 else f"{name[:60]}...{name[-30:]}")


def _extract_file(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise BadArchive(f"member {_shown(member.name)} has no content")
    path.unlink(missing_ok=True)  # a later member of the same name wins, as with tar itself
    mode = 0o555 if member.mode & 0o100 else 0o444
    # O_EXCL follows no link, whatever might have got there.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as target, source:
        left = member.size
        while left:
            piece = source.read(min(left, _CHUNK_BYTES))
            if not piece:
                raise BadArchive(f"it is truncated in member {_shown(member.name)}")
            target.write(piece)
            left -= len(piece)
