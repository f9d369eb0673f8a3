"""A client for the S3 that ``storage.s3_endpoint_url`` names: boto3, in threads."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

from clary.errors import AccessDenied, TransientError
from clary.objects.client import (
    TIMEOUT_S,
    ObjectInfo,
    Progress,
    keep_content,
    meaning_of,
    replacing,
    run_stoppable,
)


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
            with translating(bucket, key):
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
            with translating(bucket, ""):
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
            with translating(bucket, key):
                content: bytes = self._client().get_object(Bucket=bucket, Key=key)["Body"].read()
                return content

        return await asyncio.to_thread(work)

    async def download(
        self, bucket: str, key: str, path: Path, *, on_progress: Progress | None = None
    ) -> ObjectInfo:
        def work(stop: threading.Event) -> ObjectInfo:
            with translating(bucket, key), replacing(path) as draft:
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

        return await run_stoppable(work)

    async def fetch(
        self, bucket: str, key: str, path: Path, *, small_bytes: int, max_bytes: int
    ) -> bytes | None:
        def work() -> bytes | None:
            with translating(bucket, key):
                found = self._client().get_object(Bucket=bucket, Key=key)
                info = ObjectInfo(key, found["ContentLength"], found["ETag"].strip('"'))
                with contextlib.closing(found["Body"]) as body:
                    return keep_content(info, bucket, body, path, small_bytes, max_bytes)

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
            with translating(bucket, key):
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


@contextlib.contextmanager
def translating(bucket: str, key: str) -> Iterator[None]:
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
        raise meaning_of(
            str(told.get("Code", "")), str(told.get("Message", "")), status, bucket, key
        ) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise AccessDenied(
            f"The server has no credentials for the S3 of storage.s3_endpoint_url: {error}"
        ) from error
    except (BotoCoreError, Boto3Error) as error:
        raise TransientError(f"The S3 of storage.s3_endpoint_url: {error}") from error
