"""Objects in pieces: read by ranges, written in parts. For data that never is in memory as a whole.

Both extend a client of ``client.py``, block in threads, and raise what it raises; besides
``Conflict`` where an object is not any more what it was when it was looked at.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol
from xml.etree import ElementTree

from clary.errors import AlreadyExists, Conflict, PermanentError, TransientError
from clary.objects.client import EmbeddedStorage, ObjectStorage
from clary.objects.external_client import ExternalStorage, translating

_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class ObjectTransfers(ObjectStorage, Protocol):
    """An ``ObjectStorage`` that also moves pieces."""

    async def read(self, bucket: str, key: str, start: int, count: int, etag: str) -> bytes:
        """Return bytes of an object, from one that lies inside it; fewer at its end.

        Raises:
            Conflict: It has another ETag.
        """
        ...

    async def begin_upload(self, bucket: str, key: str) -> str:
        """Begin a multipart upload; return its id."""
        ...

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, content: bytes
    ) -> str:
        """Write a part, counted from 1; return its ETag."""
        ...

    async def complete_upload(
        self, bucket: str, key: str, upload_id: str, etags: Sequence[str]
    ) -> None:
        """Make the object of the parts with these ETags."""
        ...

    async def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """Forget an upload and its parts."""
        ...


@contextlib.contextmanager
def _finding_changes(bucket: str, key: str) -> Iterator[None]:
    """Say what a condition that does not hold means to who reads."""
    try:
        yield
    except AlreadyExists as error:
        raise Conflict(f"s3://{bucket}/{key} is not what it was.") from error


class EmbeddedTransfers(EmbeddedStorage):
    """Pieces of objects of this server's own S3."""

    async def read(self, bucket: str, key: str, start: int, count: int, etag: str) -> bytes:
        headers = {"Range": f"bytes={start}-{start + count - 1}", "If-Match": f'"{etag}"'}
        with _finding_changes(bucket, key):
            return await asyncio.to_thread(self._read, bucket, key, headers)

    async def begin_upload(self, bucket: str, key: str) -> str:
        root = await self._send("POST", bucket, key, "uploads")
        return root.findtext(f"{_NAMESPACE}UploadId", "")

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, content: bytes
    ) -> str:
        query = f"partNumber={number}&uploadId={upload_id}"
        return await asyncio.to_thread(self._put_part, bucket, key, query, content)

    async def complete_upload(
        self, bucket: str, key: str, upload_id: str, etags: Sequence[str]
    ) -> None:
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            for number, etag in enumerate(etags, 1)
        )
        document = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        root = await self._send("POST", bucket, key, f"uploadId={upload_id}", document)
        if root.tag.endswith("Error"):  # S3 may say so after a good status
            raise PermanentError(f"s3://{bucket}/{key}: {root.findtext('Message', '')}")

    async def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        await asyncio.to_thread(self._delete, bucket, key, f"uploadId={upload_id}")

    def _read(self, bucket: str, key: str, headers: dict[str, str]) -> bytes:
        with self._ask("GET", bucket, key, headers=headers) as response:
            expected = int(response.headers.get("Content-Length", 0))
            content = response.read()
        if len(content) != expected:
            raise TransientError(f"The connection broke after {len(content)} bytes.")
        return content

    def _put_part(self, bucket: str, key: str, query: str, content: bytes) -> str:
        with self._ask("PUT", bucket, key, query, body=content) as response:
            return response.headers.get("ETag", "").strip('"')

    def _delete(self, bucket: str, key: str, query: str) -> None:
        with self._ask("DELETE", bucket, key, query):
            pass

    async def _send(
        self, method: str, bucket: str, key: str, query: str, body: bytes = b""
    ) -> ElementTree.Element:
        def work() -> bytes:
            with self._ask(method, bucket, key, query, body=body) as response:
                return response.read()

        content = await asyncio.to_thread(work)
        return ElementTree.fromstring(content)  # noqa: S314 - our own server's words


class ExternalTransfers(ExternalStorage):
    """Pieces of objects of another S3."""

    async def read(self, bucket: str, key: str, start: int, count: int, etag: str) -> bytes:
        def work(client: Any) -> bytes:
            span = f"bytes={start}-{start + count - 1}"
            reply = client.get_object(Bucket=bucket, Key=key, Range=span, IfMatch=etag)
            content: bytes = reply["Body"].read()
            return content

        with _finding_changes(bucket, key):
            found: bytes = await self._call(bucket, key, work)
        return found

    async def begin_upload(self, bucket: str, key: str) -> str:
        def work(client: Any) -> str:
            upload_id: str = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
            return upload_id

        return str(await self._call(bucket, key, work))

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, content: bytes
    ) -> str:
        def work(client: Any) -> str:
            reply = client.upload_part(
                Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=content
            )
            etag: str = reply["ETag"]
            return etag.strip('"')

        return str(await self._call(bucket, key, work))

    async def complete_upload(
        self, bucket: str, key: str, upload_id: str, etags: Sequence[str]
    ) -> None:
        parts = [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, 1)]

        def work(client: Any) -> None:
            client.complete_multipart_upload(
                Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
            )

        await self._call(bucket, key, work)

    async def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        def work(client: Any) -> None:
            client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)

        await self._call(bucket, key, work)

    async def _call(self, bucket: str, key: str, work: Any) -> Any:
        def translated() -> Any:
            with translating(bucket, key):
                return work(self._client())

        return await asyncio.to_thread(translated)
