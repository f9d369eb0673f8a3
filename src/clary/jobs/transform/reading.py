"""Reads an input object from some byte on, by ranges, and unpacks it."""

import asyncio
import bz2
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

from clary.errors import TransientError
from clary.jobs.transform.cutting import BadInput
from clary.objects.transfers import ObjectTransfers
from clary.resources.transform_job import TransformFile

T = TypeVar("T")

RANGE_BYTES = 4 * 1024 * 1024
AHEAD_RANGES = 2
"""How many of a file are read before there is an instance: a request may be longer than one."""
AHEAD_BYTES = 32 * 1024 * 1024
"""Most that a job reads before there is an instance."""
UNPACKED_BYTES = 4 * 1024 * 1024
"""Most that is unpacked at once: a small object may hold very much."""

PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 30.0, 30.0)
"""Between attempts while the storage is away: two minutes in all."""


async def patiently(action: Callable[[], Awaitable[T]]) -> T:
    """Do something with the storage; while that is away, again and again.

    Raises:
        TransientError: It is away for too long.
    """
    for pause_s in PAUSES_S:
        try:
            return await action()
        except TransientError:
            await asyncio.sleep(pause_s)
    return await action()


class RangeReader:
    """Reads ranges of input objects: those that are asked for, and the first ones before that.

    Args:
        storage: Where the objects are.
    """

    def __init__(self, storage: ObjectTransfers) -> None:
        self._storage = storage
        self._ahead: dict[tuple[int, int], asyncio.Task[bytes]] = {}
        """By the file's position and that of the first byte."""

    def read_ahead(self, starts: Iterable[tuple[TransformFile, int]]) -> None:
        """Begin to read the first files, while there is nobody yet who takes their data.

        Args:
            starts: Files in the order in which they are taken, and the byte that each begins at.
        """
        left = AHEAD_BYTES
        for file, start in starts:
            for begin in range(
                start, min(file.size, start + AHEAD_RANGES * RANGE_BYTES), RANGE_BYTES
            ):
                left -= min(RANGE_BYTES, file.size - begin)
                if left < 0:
                    return
                self._ahead[file.position, begin] = self._begin(file, begin)

    def read(self, file: TransformFile, begin: int) -> asyncio.Task[bytes]:
        """Begin to read the range from a byte on; or return what was begun before."""
        return self._ahead.pop((file.position, begin), None) or self._begin(file, begin)

    async def close(self) -> None:
        """Let go of what was read ahead and nobody took."""
        for task in self._ahead.values():
            task.cancel()
        await asyncio.gather(*self._ahead.values(), return_exceptions=True)

    def _begin(self, file: TransformFile, begin: int) -> asyncio.Task[bytes]:
        async def once() -> bytes:
            return await self._storage.read(file.bucket, file.key, begin, RANGE_BYTES, file.etag)

        return asyncio.create_task(patiently(once))


async def read_ranges(
    reader: RangeReader, file: TransformFile, start: int
) -> AsyncGenerator[bytes, None]:
    """Yield an object's bytes from one on; the next range is read while one is used.

    Raises:
        NotFound: It is gone.
        Conflict: It was replaced since it was listed.
        AccessDenied: It cannot be read.
        TransientError: The storage is away.
    """
    position = start
    following = reader.read(file, position) if position < file.size else None
    try:
        while following is not None:
            data = await following
            position += len(data)
            following = reader.read(file, position) if position < file.size else None
            yield data
    finally:
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


class _Unpacker(Protocol):
    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


async def read_unpacked(
    reader: RangeReader, file: TransformFile, start: int
) -> AsyncGenerator[bytes, None]:
    """Yield what a gzip or bzip2 object holds, from a byte of that on. Told by its first bytes.

    Raises:
        BadInput: It is neither, or broken.
    """
    skip = start
    unpack: Unpacking | None = None
    async for data in read_ranges(reader, file, 0):
        unpack = unpack or Unpacking(data)
        rest = data
        while True:
            unpacked, rest = await asyncio.to_thread(unpack.take, rest)
            if skip:
                skipped = min(skip, len(unpacked))
                unpacked, skip = unpacked[skipped:], skip - skipped
            if unpacked:
                yield unpacked
            if not rest and unpack.needs_input:
                break
    if unpack is not None and not unpack.is_whole:
        raise BadInput("The compressed input ends too early.")


class Unpacking:
    """Unpacks one object, which may be several members in a row."""

    def __init__(self, first: bytes) -> None:
        if first.startswith(b"\x1f\x8b"):
            self._make: Callable[[], object] = lambda: _Gzip()
        elif first.startswith(b"BZh"):
            self._make = bz2.BZ2Decompressor
        else:
            raise BadInput("The input is neither gzip nor bzip2, though the job has a compression.")
        self._member: object | None = None
        self.is_whole = True
        self.needs_input = True

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Unpack some; return it, and what of the data comes after the member that ended."""
        if self._member is None:
            if not data or not data.strip(b"\0"):
                return b"", b""  # padding at the end, as tapes and gzip have it
            self._member = self._make()
        member: _Unpacker = self._member  # type: ignore[assignment]
        try:
            unpacked = member.decompress(data, UNPACKED_BYTES)
        except (zlib.error, OSError) as error:
            raise BadInput(f"The compressed input is broken: {error}") from error
        if member.eof:
            rest = member.unused_data
            self._member, self.is_whole, self.needs_input = None, True, True
            return unpacked, rest
        self.is_whole = False
        self.needs_input = len(unpacked) < UNPACKED_BYTES
        return unpacked, b""


class _Gzip:
    """zlib's decompressor, in the manner of bz2's: it keeps what it has not unpacked yet."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
