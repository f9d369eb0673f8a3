"""The embedded S3 for those who move many small objects: no thread, and connections that stay.

What is small goes through the event loop, on connections that are kept, for about a third of the
processor time that a thread and a connection of its own take. All else is left to
``objects/transfers.py``, which this extends and whose promises it keeps.
"""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from clary.errors import PermanentError, TransientError
from clary.objects.client import TIMEOUT_S, ObjectInfo, error_of, upload_headers
from clary.objects.transfers import EmbeddedTransfers
from clary.router.http_client import Exchange, unix_pool

SMALL_BYTES = 1024 * 1024
"""Bodies up to this length are sent from the loop."""

IDLE_S = 2.0
"""How long an idle connection is kept, in seconds: the server closes it after 5."""

_NO_HEADERS: Mapping[str, str] = {}


class _TooLong(Exception):
    """The answer is longer than who asked wants it here."""


class _Request(Exchange):
    """One request with a short body, and its answer with a short body."""

    __slots__ = ("answer", "body", "headers", "message", "most", "parts", "status")

    def __init__(self, message: bytes, *, is_head: bool, most: int) -> None:
        super().__init__()
        self.is_head = is_head
        self.message = message
        self.most = most
        """Longest body of a good answer, in bytes."""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.parts: list[bytes] = []
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def on_connected(self) -> None:
        assert self.connection is not None
        self.connection.write(self.message)

    def on_response(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.headers = {name.decode("latin-1").lower(): v.decode("latin-1") for name, v in headers}
        length = int(self.headers.get("content-length", 0))
        if status < 300 and length > self.most and not self.is_head:
            self._fail(_TooLong())

    def on_data(self, data: bytes) -> None:
        self.parts.append(data)

    def on_end(self) -> None:
        if not self.answer.done():
            self.answer.set_result(b"".join(self.parts))

    def on_error(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def _fail(self, error: Exception) -> None:
        if self.connection is not None:
            self.connection.abort()
        self.on_error(error)


class QuickTransfers(EmbeddedTransfers):
    """The S3 of this server.

    Args:
        socket_path: Unix socket of the ``objects`` process.
    """

    def __init__(self, socket_path: Path) -> None:
        super().__init__(socket_path)
        self._pool = unix_pool(str(socket_path))
        self._closing: asyncio.TimerHandle | None = None

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        request, _ = await self._exchange("HEAD", bucket, key)
        return _info(key, request.headers)

    async def get(self, bucket: str, key: str) -> bytes:
        try:
            _, content = await self._exchange("GET", bucket, key, most=SMALL_BYTES)
        except _TooLong:
            return await super().get(bucket, key)
        return content

    async def fetch(
        self, bucket: str, key: str, path: Path, *, small_bytes: int, max_bytes: int
    ) -> bytes | None:
        most = min(small_bytes, max_bytes)
        try:
            _, content = await self._exchange("GET", bucket, key, most=most)
        except _TooLong:
            return await super().fetch(
                bucket, key, path, small_bytes=small_bytes, max_bytes=max_bytes
            )
        return content

    async def upload(
        self,
        bucket: str,
        key: str,
        content: Path | bytes,
        *,
        content_type: str = "",
        metadata: Mapping[str, str] | None = None,
        is_new: bool = False,
    ) -> ObjectInfo:
        if isinstance(content, Path) or len(content) > SMALL_BYTES:
            return await super().upload(
                bucket, key, content, content_type=content_type, metadata=metadata, is_new=is_new
            )
        headers = upload_headers(content_type, metadata, is_new=is_new)
        request, _ = await self._exchange("PUT", bucket, key, content, headers)
        return ObjectInfo(key, len(content), request.headers.get("etag", "").strip('"'))

    def close(self) -> None:
        """Close what is idle."""
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        self._pool.close()

    async def _exchange(
        self,
        method: str,
        bucket: str,
        key: str,
        body: bytes = b"",
        headers: Mapping[str, str] = _NO_HEADERS,
        *,
        most: int = 0,
    ) -> tuple[_Request, bytes]:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if "\r" in lines.replace("\r\n", "") or lines.count("\n") != len(headers):
            raise PermanentError(f"s3://{bucket}/{key}: a header has a line end in it.")
        head = (
            f"{method} /{quote(bucket)}/{quote(key)} HTTP/1.1\r\nhost: localhost\r\n{lines}"
            f"content-length: {len(body)}\r\n\r\n"
        )
        try:
            message = head.encode("latin-1") + body
        except UnicodeEncodeError as error:
            raise PermanentError(f"s3://{bucket}/{key}: {error}") from error
        is_retried = False
        while True:
            request = _Request(message, is_head=method == "HEAD", most=most)
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    is_kept = self._pool.begin(request)
                    if not is_kept:
                        (await self._pool.open()).begin(request)
                    content = await request.answer
                break
            except (OSError, TimeoutError) as error:
                if is_kept and not request.started and not is_retried:
                    is_retried = True  # the server closed the connection while it was idle
                    continue
                raise TransientError(f"The embedded S3 does not answer: {error}") from error
            finally:
                if not request.answer.done() and request.connection is not None:
                    request.connection.abort()
                self._close_later()
        if request.status >= 300:
            raise error_of(request.status, str(request.status), content, bucket, key)
        return request, content

    def _close_later(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().call_later(IDLE_S / 2, self._close_idle)

    def _close_idle(self) -> None:
        self._closing = None
        self._pool.close_idle(time.monotonic() - IDLE_S)
        if self._pool.has_connections:
            self._close_later()


def _info(key: str, headers: Mapping[str, str]) -> ObjectInfo:
    prefix = "x-amz-meta-"
    return ObjectInfo(
        key,
        int(headers.get("content-length", 0)),
        headers.get("etag", "").strip('"'),
        headers.get("content-type", ""),
        {n.removeprefix(prefix): value for n, value in headers.items() if n.startswith(prefix)},
    )
