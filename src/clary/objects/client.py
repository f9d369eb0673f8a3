"""A client for any S3: what the fleet fetches artifacts with.

``EmbeddedStorage`` talks to this server's own ``objects`` process over its Unix socket, unsigned,
with the standard library alone. ``ExternalStorage`` is boto3, for the S3 that
``storage.s3_endpoint_url`` names. Both block in threads and pass the same contract tests.
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
        return await _run_stoppable(
            lambda stop: self._download(bucket, key, path, on_progress, stop)
        )

    async def fetch(
        self, bucket: str, key: str, path: Path, *, small_bytes: int, max_bytes: int
    ) -> bytes | None:
        def work() -> bytes | None:
            with self._ask("GET", bucket, key) as response:
                info = _info(key, response)
                return _fetched(info, bucket, response, path, small_bytes, max_bytes)

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
        headers = {f"x-amz-meta-{name}": value for name, value in (metadata or {}).items()}
        if content_type:
            headers["Content-Type"] = content_type
        if is_new:
            headers["If-None-Match"] = "*"
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
                raise _error_of(response, bucket, key)
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
        with self._ask("GET", bucket, key) as response, _replacing(path) as draft:
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


class ExternalStorage:
    """Another S3, or Amazon's.

    Credentials come from the standard AWS environment variables and files of the server.

    Args:
        endpoint_url: Where it is.
        region: To sign for.
    """

    def __init__(self, endpoint_url: str, region: str) -> None:
        self._endpoint_url = endpoint_url
        self._region = region
        self._lock = threading.Lock()
        self._made: Any = None

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        def work() -> ObjectInfo:
            with _translating(bucket, key):
                found = self._client().head_object(Bucket=bucket, Key=key)
                return ObjectInfo(
                    key,
                    found["ContentLength"],
                    found["ETag"].strip('"'),
                    found.get("ContentType", ""),
                    found.get("Metadata", {}),
                )

        return await asyncio.to_thread(work)

    async def list(self, bucket: str, prefix: str) -> AsyncIterator[ObjectInfo]:
        query: dict[str, str] = {"Bucket": bucket, "Prefix": prefix}

        def work() -> Any:
            with _translating(bucket, ""):
                return self._client().list_objects_v2(**query)

        while True:
            page = await asyncio.to_thread(work)
            for found in page.get("Contents", ()):
                yield ObjectInfo(found["Key"], found["Size"], found["ETag"].strip('"'))
            if not page.get("IsTruncated"):
                return
            query["ContinuationToken"] = page["NextContinuationToken"]

    async def get(self, bucket: str, key: str) -> bytes:
        def work() -> bytes:
            with _translating(bucket, key):
                content: bytes = self._client().get_object(Bucket=bucket, Key=key)["Body"].read()
                return content

        return await asyncio.to_thread(work)

    async def download(
        self, bucket: str, key: str, path: Path, *, on_progress: Progress | None = None
    ) -> ObjectInfo:
        def work(stop: threading.Event) -> ObjectInfo:
            with _translating(bucket, key), _replacing(path) as draft:
                found = self._client().head_object(Bucket=bucket, Key=key)
                size: int = found["ContentLength"]
                counter = _Counter(size, on_progress, stop)
                self._client().download_file(
                    bucket,
                    key,
                    str(draft),
                    Callback=counter,
                )
                return ObjectInfo(key, size, found["ETag"].strip('"'))

        return await _run_stoppable(work)

    async def fetch(
        self, bucket: str, key: str, path: Path, *, small_bytes: int, max_bytes: int
    ) -> bytes | None:
        def work() -> bytes | None:
            with _translating(bucket, key):
                found = self._client().get_object(Bucket=bucket, Key=key)
                info = ObjectInfo(key, found["ContentLength"], found["ETag"].strip('"'))
                with contextlib.closing(found["Body"]) as body:
                    return _fetched(info, bucket, body, path, small_bytes, max_bytes)

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
        extra: dict[str, Any] = {"Metadata": dict(metadata)} if metadata else {}
        if content_type:
            extra["ContentType"] = content_type
        if is_new:
            extra["IfNoneMatch"] = "*"

        def work() -> ObjectInfo:
            with _translating(bucket, key):
                if isinstance(content, bytes) or is_new:
                    # One request, for only that has a condition; its body is read as it is sent.
                    with contextlib.ExitStack() as stack:
                        body: Any = content
                        if isinstance(content, Path):
                            body = stack.enter_context(content.open("rb"))
                        put = self._client().put_object(Bucket=bucket, Key=key, Body=body, **extra)
                    size = len(content) if isinstance(content, bytes) else content.stat().st_size
                    return ObjectInfo(key, size, put["ETag"].strip('"'))
                self._client().upload_file(str(content), bucket, key, ExtraArgs=extra)
                found = self._client().head_object(Bucket=bucket, Key=key)
                return ObjectInfo(key, found["ContentLength"], found["ETag"].strip('"'))

        return await asyncio.to_thread(work)

    def _client(self) -> Any:
        # Optional and heavy: most servers use the embedded S3 and never load boto3.
        import boto3  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        with self._lock:
            if self._made is None:
                session = boto3.session.Session(region_name=self._region)
                config = Config(
                    connect_timeout=10,
                    read_timeout=TIMEOUT_S,
                    retries={"mode": "standard", "max_attempts": 3},
                )
                self._made = session.client("s3", endpoint_url=self._endpoint_url, config=config)
            return self._made


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


class _Counter:
    """Counts bytes for who watches a transfer, and stops it."""

    def __init__(self, size: int, on_progress: Progress | None, stop: threading.Event) -> None:
        self._size = size
        self._on_progress = on_progress
        self._stop = stop
        self._lock = threading.Lock()
        self._done = 0

    def __call__(self, count: int) -> None:
        with self._lock:
            self._done += count
            done = self._done
        if self._stop.is_set():
            raise TransientError("The transfer was stopped.")
        if self._on_progress is not None:
            self._on_progress(done, self._size)


async def _run_stoppable(work: Callable[[threading.Event], ObjectInfo]) -> ObjectInfo:
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
def _replacing(path: Path) -> Iterator[Path]:
    """Give a name to write to, which becomes ``path`` at the end."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        yield draft
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


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


def _fetched(
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
        with _replacing(path) as draft, draft.open("wb") as file:
            while piece := body.read(_PIECE_BYTES):
                file.write(piece)
                done += len(piece)
    if done != info.size:
        raise TransientError(f"The connection broke after {done} of {info.size} bytes.")
    return content if info.size <= small_bytes else None


def _error_of(response: http.client.HTTPResponse, bucket: str, key: str) -> Exception:
    """Return what an error reply means."""
    body = response.read()
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - our own server's words
        code, message = root.findtext("Code", ""), root.findtext("Message", "")
    except ElementTree.ParseError:
        code, message = str(response.status), response.reason
    return _meaning(code, message, response.status, bucket, key)


def _meaning(code: str, message: str, status: int, bucket: str, key: str) -> Exception:
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


@contextlib.contextmanager
def _translating(bucket: str, key: str) -> Iterator[None]:
    """Keep botocore's exceptions inside this module."""
    from boto3.exceptions import Boto3Error  # noqa: PLC0415 - heavy, see ExternalStorage._client
    from botocore.exceptions import (  # noqa: PLC0415
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        PartialCredentialsError,
    )

    try:
        yield
    except ClientError as error:
        facts: Mapping[str, Any] = error.response
        status = int(facts.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        told = facts.get("Error", {})
        raise _meaning(
            str(told.get("Code", "")), str(told.get("Message", "")), status, bucket, key
        ) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise AccessDenied(
            f"The server has no credentials for the S3 of storage.s3_endpoint_url: {error}"
        ) from error
    except (BotoCoreError, Boto3Error) as error:
        raise TransientError(f"The S3 of storage.s3_endpoint_url: {error}") from error
