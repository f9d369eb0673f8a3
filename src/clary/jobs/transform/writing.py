"""Writes an output object: small ones at once, large ones in parts, which are not lost by a crash.

A part ends where a payload's output ends. With each part it is written down (``on_part``) up to
which byte of the input the output is there, so that a later life goes on from that byte.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from clary.errors import Error
from clary.jobs.transform.reading import patiently
from clary.objects.transfers import ObjectTransfers
from clary.resources.transform_job import TransformFile

PART_BYTES = 8 * 1024 * 1024
MANY_PARTS = 5000
LARGE_PART_BYTES = 64 * 1024 * 1024
"""Parts of objects that already have many, for none may have more than 10,000."""


class OutputWriter:
    """Takes the output of one file in order.

    Args:
        storage: Where to.
        bucket: Of the output.
        file: What was written before.
        on_part: Makes durable how far it is.
    """

    def __init__(
        self,
        storage: ObjectTransfers,
        bucket: str,
        file: TransformFile,
        on_part: Callable[[TransformFile], Awaitable[None]],
    ) -> None:
        self._storage = storage
        self._bucket = bucket
        self.file = file
        self._on_part = on_part
        self._pieces: list[bytes] = []
        self._size = 0
        self._uploading: asyncio.Task[None] | None = None

    async def write(self, data: bytes, end: int) -> None:
        """Take output.

        Args:
            data: Of one payload, or a part of it.
            end: Byte of the input that it goes up to.
        """
        if data:
            self._pieces.append(data)
            self._size += len(data)
        is_many = len(self.file.etags) >= MANY_PARTS
        if self._size >= (LARGE_PART_BYTES if is_many else PART_BYTES):
            content = b"".join(self._pieces)
            self._pieces, self._size = [], 0
            await self._settle()
            self._uploading = asyncio.create_task(self._upload(content, end))

    async def close(self) -> None:
        """Make the object of all that was written."""
        await self._settle()
        content = b"".join(self._pieces)
        key, upload_id = self.file.output_key, self.file.upload_id
        if upload_id is None:
            await patiently(lambda: self._storage.upload(self._bucket, key, content))
            return
        etags = list(self.file.etags)
        if content:
            etags.append(await self._put(upload_id, len(etags) + 1, content))
        await patiently(lambda: self._storage.complete_upload(self._bucket, key, upload_id, etags))

    async def abandon(self) -> None:
        """Let go; what was written in parts is removed when nobody goes on with it."""
        if self._uploading is not None:
            self._uploading.cancel()
            await asyncio.gather(self._uploading, return_exceptions=True)

    async def abort(self) -> None:
        """Remove what was written in parts, as far as that can be done now."""
        await self.abandon()
        if self.file.upload_id is not None:
            with suppress(Error, OSError):
                await self._storage.abort_upload(
                    self._bucket, self.file.output_key, self.file.upload_id
                )
            self.file = replace(self.file, upload_id=None, etags=(), offset=0)

    async def _settle(self) -> None:
        if self._uploading is not None:
            uploading, self._uploading = self._uploading, None
            await uploading

    async def _upload(self, content: bytes, end: int) -> None:
        key, upload_id = self.file.output_key, self.file.upload_id
        if upload_id is None:
            upload_id = await patiently(lambda: self._storage.begin_upload(self._bucket, key))
            self.file = replace(self.file, upload_id=upload_id)
        etag = await self._put(upload_id, len(self.file.etags) + 1, content)
        self.file = replace(self.file, etags=(*self.file.etags, etag), offset=end)
        await self._on_part(self.file)

    async def _put(self, upload_id: str, number: int, content: bytes) -> str:
        key = self.file.output_key
        return await patiently(
            lambda: self._storage.upload_part(self._bucket, key, upload_id, number, content)
        )
