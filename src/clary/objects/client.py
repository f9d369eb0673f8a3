"""A client for any S3: what the fleet fetches artifacts with.

``EmbeddedStorage`` talks to this server's own ``objects`` process over its Unix socket, unsigned,
with the standard library alone. Any other S3 is ``external_client.py``'s. Both block in threads and
pass the same contract tests.
"""

import asyncio
import contextlib
import errno
import http.client
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlencode
from xml.etree import ElementTree

from clary.errors import AccessDenied, AlreadyExists, NotFound, PermanentError, TransientError

Progress = Callable[[int, int], None]
"""Told (bytes so far, bytes in all) now and then, in a thread."""

TIMEOUT_S = 60.0
"""Longest silence of the other side."""

_PIECE_BYTES = 1024 * 1024
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG})
"""What writing a file meets, and a Unix socket never: ``write`` does not name the file."""

_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_NOT_FOUND = frozenset({"NoSuchKey", "NoSuchBucket", "NotFound", "404"})
_DENIED = frozenset(
    {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "403"}
)


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object without its content."""

    key: str
    size: int
    etag: str
    """Without quotes."""

    content_type: str = field(default="", compare=False)
    """Only ``head`` tells it."""

    metadata: Mapping[str, str] = field(default_factory=dict, compare=False)
    """What its writer said of it; only ``head`` tells it."""


class ObjectStorage(Protocol):
    """Objects in buckets.

    All methods raise ``NotFound`` for a bucket or object that is not there, ``AccessDenied`` where
    the credentials do not do, ``TransientError`` for what may work later, and ``PermanentError``
    for the rest.
    """

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        """Look at an object."""
        ...

    def list(self, bucket: str, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield the objects whose keys start with a prefix, in order of their keys."""
        ...

    async def get(self, bucket: str, key: str) -> bytes:
        """Return the content of an object, which should be small."""
        ...

    async def download(
        self, bucket: str, key: str, path: Path, *, on_progress: Progress | None = None
    ) -> ObjectInfo:
        """Write an object to a file, which is replaced; on an error none is left.

        Cancelling stops the transfer.
        """
        ...

    async def fetch(
        self, bucket: str, key: str, path: Path, *, small_bytes: int, max_bytes: int
    ) -> bytes | None:
        """Return the content of an object that is small; write a longer one to a file.

        Raises:
            PermanentError: It is longer than ``max_bytes``.
        """
        ...

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
        """Create or replace an object, from a file or from bytes.

        Raises:
            AlreadyExists: ``is_new`` was given, and there is such an object.
        """
        ...


class EmbeddedStorage:
    """The S3 of this server.

    Args:
        socket_path: Unix socket of the ``objects`` process.
    """

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = str(socket_path)

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        return await asyncio.to_thread(self._head, bucket, key)

    async def list(self, bucket: str, prefix: str) -> AsyncIterator[ObjectInfo]:
        token: str | None = None
        while True:
            page, token = await asyncio.to_thread(self._list_page, bucket, prefix, token)
            for found in page:
                yield found
            if token is None:
                return

    async def get(self, bucket: str, key: str) -> bytes:
        return await asyncio.to_thread(self._get, bucket, key)

    async def download(
        self, bucket: str, key: str, path: Path, *, on_progress: Progress | None = None
    ) -> ObjectInfo:
        return await run_stoppable(
            lambda stop: self._download(bucket, key, path, on_progress, stop)
        )

    async def fetch(
        self, bucket: str, key: str, path: Path, *, small_bytes: int, max_bytes: int
    ) -> bytes | None:
        def work() -> bytes | None:
            with self._ask("GET", bucket, key) as response:
                info = _info(key, response)
                return keep_content(info, bucket, response, path, small_bytes, max_bytes)

        return await asyncio.to_thread(work)

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
        headers = upload_headers(content_type, metadata, is_new=is_new)
        return await asyncio.to_thread(self._upload, bucket, key, content, headers)

    # In a thread --------------------------------------------------------------------------

    @contextlib.contextmanager
    def _ask(
        self,
        method: str,
        bucket: str,
        key: str = "",
        query: str = "",
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        target = f"/{quote(bucket)}/{quote(key)}{'?' + query if query else ''}"
        connection = _UnixConnection(self._socket_path)
        try:
            connection.request(
                method, target, body=body, headers={"Host": "localhost", **(headers or {})}
            )
            response = connection.getresponse()
            if response.status >= 300:
                raise error_of(response.status, response.reason, response.read(), bucket, key)
            yield response
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and (error.filename or error.errno in _DISK_ERRORS):
                raise  # a local file, not the connection
            raise TransientError(f"The embedded S3 does not answer: {error}") from error
        finally:
            connection.close()

    def _head(self, bucket: str, key: str) -> ObjectInfo:
        with self._ask("HEAD", bucket, key) as response:
            return _info(key, response)

    def _list_page(
        self, bucket: str, prefix: str, token: str | None
    ) -> tuple[Sequence[ObjectInfo], str | None]:
        query = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
        if token is not None:
            query["continuation-token"] = token
        with self._ask("GET", bucket, query=urlencode(query)) as response:
            root = ElementTree.fromstring(response.read())  # noqa: S314 - our own server's words
        page = [
            ObjectInfo(
                unquote(entry.findtext(f"{_NAMESPACE}Key", "")),
                int(entry.findtext(f"{_NAMESPACE}Size", "0")),
                entry.findtext(f"{_NAMESPACE}ETag", "").strip('"'),
            )
            for entry in root.iter(f"{_NAMESPACE}Contents")
        ]
        return page, root.findtext(f"{_NAMESPACE}NextContinuationToken")

    def _get(self, bucket: str, key: str) -> bytes:
        with self._ask("GET", bucket, key) as response:
            return response.read()

    def _download(
        self,
        bucket: str,
        key: str,
        path: Path,
        on_progress: Progress | None,
        stop: threading.Event,
    ) -> ObjectInfo:
        with self._ask("GET", bucket, key) as response, replacing(path) as draft:
            info = _info(key, response)
            done = 0
            buffer = memoryview(bytearray(_PIECE_BYTES))
            # Buffered, for a raw write may take less than it is given, as on a disk that is full.
            with draft.open("wb") as file:
                while count := response.readinto(buffer):
                    if stop.is_set():
                        raise TransientError("The transfer was stopped.")
                    file.write(buffer[:count])
                    done += count
                    if on_progress is not None:
                        on_progress(done, info.size)
            if done != info.size:
                raise TransientError(f"The connection broke after {done} of {info.size} bytes.")
            return info

    def _upload(
        self, bucket: str, key: str, content: Path | bytes, headers: Mapping[str, str]
    ) -> ObjectInfo:
        with contextlib.ExitStack() as stack:
            body: Any = content
            size = len(content) if isinstance(content, bytes) else content.stat().st_size
            if isinstance(content, Path):
                body = stack.enter_context(content.open("rb"))
            response = stack.enter_context(
                self._ask("PUT", bucket, key, body=body, headers=headers)
            )
            return ObjectInfo(key, size, response.headers.get("ETag", "").strip('"'))


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S, blocksize=_PIECE_BYTES)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except OSError as error:
            self.sock.close()
            raise ConnectionError(f"{self._path}: {error}") from error


async def run_stoppable(work: Callable[[threading.Event], ObjectInfo]) -> ObjectInfo:
    """Run a transfer in a thread; cancelling stops it at its next bytes, and waits for that."""
    stop = threading.Event()
    running = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()
        raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name to write to, which becomes ``path`` at the end."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        yield draft
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def upload_headers(
    content_type: str, metadata: Mapping[str, str] | None, *, is_new: bool
) -> dict[str, str]:
    """Return the headers of a PutObject."""
    headers = {f"x-amz-meta-{name}": value for name, value in (metadata or {}).items()}
    if content_type:
        headers["Content-Type"] = content_type
    if is_new:
        headers["If-None-Match"] = "*"
    return headers


def _info(key: str, response: http.client.HTTPResponse) -> ObjectInfo:
    headers = response.headers
    return ObjectInfo(
        key,
        int(headers.get("Content-Length", 0)),
        headers.get("ETag", "").strip('"'),
        headers.get("Content-Type", ""),
        {
            name.lower().removeprefix("x-amz-meta-"): value
            for name, value in headers.items()
            if name.lower().startswith("x-amz-meta-")
        },
    )


def keep_content(
    info: ObjectInfo, bucket: str, body: Any, path: Path, small_bytes: int, max_bytes: int
) -> bytes | None:
    """Read an object's content to where it belongs."""
    if info.size > max_bytes:
        raise PermanentError(
            f"s3://{bucket}/{info.key} has {info.size} bytes, and may have at most {max_bytes}"
        )
    done = 0
    if info.size <= small_bytes:
        content: bytes = body.read()
        done = len(content)
    else:
        content = b""
        with replacing(path) as draft, draft.open("wb") as file:
            while piece := body.read(_PIECE_BYTES):
                file.write(piece)
                done += len(piece)
    if done != info.size:
        raise TransientError(f"The connection broke after {done} of {info.size} bytes.")
    return content if info.size <= small_bytes else None


def error_of(status: int, reason: str, body: bytes, bucket: str, key: str) -> Exception:
    """Return what an error reply means."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - our own server's words
        code, message = root.findtext("Code", ""), root.findtext("Message", "")
    except ElementTree.ParseError:
        code, message = str(status), reason
    return meaning_of(code, message, status, bucket, key)


def meaning_of(code: str, message: str, status: int, bucket: str, key: str) -> Exception:
    place = f"s3://{bucket}/{key}" if key else f"s3://{bucket}"
    if code in _NOT_FOUND or status == 404:
        # In the words of SageMaker's own failure reasons, which users search for.
        return NotFound(f"Could not find {place}: {message or 'Not Found'}")
    if code in _DENIED or status == 403:
        return AccessDenied(f"No access to {place}: {message or code}", "AccessDenied")
    if status == 412:
        return AlreadyExists(f"{place} is there already")
    if status >= 500 or status in (408, 429):
        return TransientError(f"{place}: {code}: {message}")
    return PermanentError(f"{place}: {code}: {message}")
