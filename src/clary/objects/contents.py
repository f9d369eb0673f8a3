"""The bytes of objects and of parts: as pieces, each a file or, when small, a blob in the database.

An object that was put in one go has one piece; one that was uploaded in parts has a piece for each
of them, so that completing an upload copies nothing. Bytes are hashed and written by threads in
batches while the next ones arrive; memory holds two batches, however large the object.
"""

import asyncio
import json
import os
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from clary.objects.bodies import Checked
from clary.objects.conditions import ByteRange
from clary.objects.database import Transaction
from clary.objects.faults import entity_too_large
from clary.objects.files import ContentFiles, Draft

T = TypeVar("T")

INLINE_BYTES = 64 * 1024
"""Up to this size bytes lie in the database: one fsync instead of four."""
BATCH_BYTES = 1024 * 1024
"""Bytes that a thread hashes, writes or reads at a time."""
FLUSH_BYTES = 16 * 1024**2
"""Bytes after which the disk is asked to take what is written."""
MAX_OBJECT_BYTES = 5 * 1024**3
"""Most bytes in one request: S3's limit for PutObject and UploadPart."""


class Check(Protocol):
    """What sees the bytes on their way: ``BodyCheck``."""

    def feed(self, pieces: Sequence[bytes]) -> Sequence[bytes]: ...

    def finish(self) -> Checked: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that are stored, with what is known of them."""

    number: int
    size: int
    etag: str
    modified_at: float
    checksums: Mapping[str, str]
    """By algorithm, in base64."""
    file: str | None
    data: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewContent:
    """Bytes that are durable and belong to nobody yet."""

    checked: Checked
    file: str | None
    data: bytes | None = field(repr=False)

    def as_piece(self, number: int, modified_at: float) -> Piece:
        checked = self.checked
        return Piece(
            number, checked.size, checked.md5, modified_at, checked.checksums, self.file, self.data
        )


def new_content_id() -> int:
    """Return a number that no content has: it grows with time, which keeps the table compact."""
    return (time.time_ns() // 1_000_000) << 20 | secrets.randbits(20)


# Receiving ----------------------------------------------------------------------------------


class Contents:
    """Stores and reads bytes.

    Args:
        files: Where files lie.
        executor: Threads for hashing and for the disk.
    """

    def __init__(self, files: ContentFiles, executor: Executor) -> None:
        self.files = files
        self._executor = executor

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run something that blocks in a thread."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, function, *arguments
        )

    async def receive(self, batches: AsyncIterator[list[bytes]], check: Check) -> NewContent:
        """Store the bytes of a body.

        Args:
            batches: Pieces as they arrive, about ``BATCH_BYTES`` at a time.
            check: Decodes and verifies them.

        Raises:
            Fault: The body is not what it should be, or there is no room. Nothing is left.
        """
        sink = _Sink(self.files, check)
        working: asyncio.Future[None] | None = None
        flushing: asyncio.Future[None] | None = None
        try:
            async for batch in batches:
                if working is not None:
                    await working
                    working = None
                if sink.is_light(batch):
                    sink.take(batch)
                else:
                    working = asyncio.ensure_future(self.run(sink.take, batch))
                    if sink.unflushed >= FLUSH_BYTES and (flushing is None or flushing.done()):
                        # The disk works while the client sends: the last fsync has little to do.
                        flushing = asyncio.ensure_future(self.run(sink.flush))
            if working is not None:
                await working
                working = None
            if flushing is not None:
                await flushing
            return await self.run(sink.finish) if sink.has_file else sink.finish()
        except BaseException:
            busy = [future for future in (working, flushing) if future is not None]
            if busy:
                # A thread cannot be stopped: its file may only go when it is done with it.
                await asyncio.wait(busy)
            sink.discard()
            raise

    async def open(self, pieces: Sequence[Piece], wanted: ByteRange) -> "OpenContent":
        """Prepare to read bytes of a content.

        Raises:
            FileNotFoundError: It has been replaced and removed meanwhile: look again.
        """
        spans = list(_spans(pieces, wanted))
        if all(piece.data is not None for piece, _, _ in spans):
            return OpenContent(self, [(piece, -1, start, n) for piece, start, n in spans])
        return OpenContent(self, await self.run(self._open_all, spans))

    def _open_all(
        self, spans: Sequence[tuple[Piece, int, int]]
    ) -> list[tuple[Piece, int, int, int]]:
        opened: list[tuple[Piece, int, int, int]] = []
        try:
            for piece, start, length in spans:
                descriptor = self.files.open(piece.file) if piece.file is not None else -1
                opened.append((piece, descriptor, start, length))
        except OSError:
            for _, descriptor, _, _ in opened:
                if descriptor >= 0:
                    os.close(descriptor)
            raise
        return opened


class _Sink:
    """Takes one body: keeps it in memory while it is small, then in a file."""

    def __init__(self, files: ContentFiles, check: Check) -> None:
        self._files = files
        self._check = check
        self._held: list[bytes] = []
        self._size = 0
        self._draft: Draft | None = None
        self.unflushed = 0
        """Bytes in the file that the disk has not been asked to take."""

    @property
    def has_file(self) -> bool:
        return self._draft is not None

    def is_light(self, batch: Sequence[bytes]) -> bool:
        """Return whether taking this is quicker than handing it to a thread."""
        return self._draft is None and sum(map(len, batch)) + self._size <= INLINE_BYTES

    def take(self, batch: Sequence[bytes]) -> None:
        pieces = self._check.feed(batch)
        self._size += sum(map(len, pieces))
        if self._size > MAX_OBJECT_BYTES:
            raise entity_too_large(self._size, MAX_OBJECT_BYTES)
        if self._draft is None:
            self._held += pieces
            if self._size <= INLINE_BYTES:
                return
            self._draft = self._files.create()
            pieces, self._held = self._held, []
        self._draft.write(pieces)
        self.unflushed += sum(map(len, pieces))

    def flush(self) -> None:
        """Wait until the disk has what is written so far."""
        if self._draft is not None:
            self.unflushed = 0
            self._draft.flush()

    def finish(self) -> NewContent:
        checked = self._check.finish()
        if self._draft is None:
            return NewContent(checked, None, b"".join(self._held))
        return NewContent(checked, self._draft.keep(), None)

    def discard(self) -> None:
        if self._draft is not None:
            self._draft.discard()


# Reading ------------------------------------------------------------------------------------


class OpenContent:
    """Bytes that can be read, whatever happens to the object meanwhile. Close it."""

    def __init__(self, contents: Contents, spans: list[tuple[Piece, int, int, int]]) -> None:
        self._contents = contents
        self._spans = spans

    @property
    def at_hand(self) -> bytes | None:
        """The bytes, where all of them came with the rows; None where files have to be read."""
        if any(descriptor >= 0 for _, descriptor, _, _ in self._spans):
            return None
        return b"".join(
            piece.data[start : start + length]
            for piece, _, start, length in self._spans
            if piece.data is not None
        )

    async def read(self) -> AsyncIterator[bytes]:
        """Yield the bytes in order; the disk is read one batch ahead of the caller.

        Raises:
            OSError: The disk fails.
        """
        ahead: asyncio.Future[bytes] | None = None
        try:
            for descriptor, offset, length, data in self._batches():
                if data is not None:
                    following: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
                    following.set_result(data)
                else:
                    following = asyncio.ensure_future(
                        self._contents.run(_read_at, descriptor, length, offset)
                    )
                if ahead is not None:
                    now, ahead = ahead, following
                    yield await now
                else:
                    ahead = following
            if ahead is not None:
                now, ahead = ahead, None
                yield await now
        finally:
            if ahead is not None:
                await asyncio.wait([ahead])
                ahead.exception()

    def _batches(self) -> Any:
        for piece, descriptor, start, length in self._spans:
            if piece.data is not None:
                yield -1, 0, length, piece.data[start : start + length]
                continue
            for offset in range(start, start + length, BATCH_BYTES):
                yield descriptor, offset, min(BATCH_BYTES, start + length - offset), None

    def close(self) -> None:
        for _, descriptor, _, _ in self._spans:
            if descriptor >= 0:
                os.close(descriptor)
        self._spans = []


def _spans(pieces: Sequence[Piece], wanted: ByteRange) -> Any:
    """Yield (piece, first byte in it, how many) for a range of the whole."""
    start, left = wanted.start, wanted.length
    for piece in pieces:
        if left <= 0:
            return
        if start >= piece.size:
            start -= piece.size
            continue
        length = min(left, piece.size - start)
        yield piece, start, length
        start = 0
        left -= length


def _read_at(descriptor: int, length: int, offset: int) -> bytes:
    data = os.pread(descriptor, length, offset)
    if len(data) != length:
        raise OSError(f"a content file is {length - len(data)} bytes short at {offset + len(data)}")
    return data


# Rows ---------------------------------------------------------------------------------------

_COLUMNS = "number, size, etag, modified_at, checksums, file, data"


def find_pieces(connection: sqlite3.Connection, content: int) -> list[Piece]:
    """Return the pieces of a content in order, with the bytes of small ones."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM pieces WHERE content = ? ORDER BY number", (content,)
    )
    return [_piece(row) for row in rows]


def find_part_facts(
    source: sqlite3.Connection | Transaction, content: int, after: int = 0, limit: int = -1
) -> list[Piece]:
    """Return pieces in order, without their bytes."""
    columns = _COLUMNS.replace("data", "NULL")
    rows = source.execute(
        f"SELECT {columns} FROM pieces WHERE content = ? AND number > ? ORDER BY number LIMIT ?",
        (content, after, limit),
    )
    return [_piece(row) for row in rows]


def save_piece(transaction: Transaction, files: ContentFiles, content: int, piece: Piece) -> None:
    """Add a piece to a content, or replace the one with its number."""
    remove_pieces(transaction, files, content, [piece.number])
    transaction.execute(
        f"INSERT INTO pieces (content, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            content,
            piece.number,
            piece.size,
            piece.etag,
            piece.modified_at,
            json.dumps(dict(piece.checksums)) if piece.checksums else "",
            piece.file,
            piece.data,
        ),
    )


def remove_pieces(
    transaction: Transaction,
    files: ContentFiles,
    content: int,
    numbers: Sequence[int] | None = None,
) -> None:
    """Remove a content, or some of its pieces; their files go once that is durable."""
    if numbers is None:
        rows = transaction.execute(
            "DELETE FROM pieces WHERE content = ? RETURNING file", (content,)
        )
    else:
        rows = transaction.execute(
            "DELETE FROM pieces WHERE content = ? AND number IN "
            f"({','.join('?' * len(numbers))}) RETURNING file",
            (content, *numbers),
        )
    names = [name for (name,) in rows.fetchall() if name is not None]
    if names:
        transaction.after_commit.append(lambda: files.remove(names))


def known_files(connection: sqlite3.Connection) -> set[str]:
    """Return the names of all files that pieces lie in."""
    rows = connection.execute("SELECT file FROM pieces WHERE file IS NOT NULL")
    return {name for (name,) in rows}


def _piece(row: Sequence[Any]) -> Piece:
    number, size, etag, modified_at, checksums, file, data = row
    facts = json.loads(checksums) if checksums else {}
    if file is None and data is None and size == 0:
        data = b""
    return Piece(number, size, etag, modified_at, facts, file, data)
