"""Fetches model artifacts and keeps them, unpacked, for all instances that use them.

An artifact may be an archive or a tree of files: in S3 (``ModelDataUrl``, ``ModelDataSource``), at
an ``https://`` address, or on this machine (``file://``, a path). Local directories are copied, as
an upload would be: what an endpoint runs does not change under it, and an instance that is replaced
tomorrow gets what its neighbours have. Links in them are followed, so that the caches of model hubs
work, as long as they stay within ``storage.file_roots``.

Entries are named by where they came from and by what it looked like there (ETag; size and time of a
file), so that an object that was overwritten is fetched anew. Files are shared and read-only.
"""

import contextlib
import errno
import hashlib
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from clary.errors import NotFound, PermanentError, TransientError
from clary.fleet.cache import Cache
from clary.fleet.stoppable import Check, run_stoppable
from clary.fleet.unpack import BadArchive, UnpackLimits, unpack
from clary.objects.client import ObjectStorage

FILES = "files"
"""The artifact itself, in its entry of the cache."""

_CHUNK_BYTES = 1024 * 1024
_HTTP_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactSource:
    """Where an artifact lies, and how."""

    url: str
    """``s3://``, ``https://``, ``http://``, ``file://``, or an absolute path."""

    form: Literal["archive", "tree", "object"] = "archive"
    """``archive``: a ``.tar.gz``, or a local directory. ``tree``: all objects under an S3 prefix.
    ``object``: one file, which is the artifact as it is."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact on this machine."""

    key: str
    """Its name in the cache; changes with its content."""

    directory: Path


class Artifacts:
    """The artifacts of this machine.

    Args:
        cache: Where they are kept.
        storage: Where ``s3://`` is.
        limits: What one may unpack to.
        file_roots: Directories that local artifacts may lie in.
        executor: Threads for unpacking and copying, which may take minutes.
    """

    def __init__(
        self,
        cache: Cache,
        storage: ObjectStorage,
        limits: UnpackLimits,
        file_roots: Sequence[str],
        executor: Executor,
    ) -> None:
        self._cache = cache
        self._storage = storage
        self._limits = limits
        self._file_roots = tuple(Path(root).expanduser().resolve() for root in file_roots)
        self._executor = executor

    async def fetch(self, source: ArtifactSource, *, holder: str) -> Artifact:
        """Return an artifact; fetch it first where it is not here yet.

        Args:
            source: Where it lies.
            holder: Whoever uses it (an instance's id), until the cache is told otherwise.

        Raises:
            NotFound: Nothing is there.
            AccessDenied: The credentials of the server do not do.
            PermanentError: It cannot be taken, or there is no room for it.
            TransientError: The storage does not answer now.
        """
        parts = urlsplit(source.url)
        with _disk_errors():
            if parts.scheme == "s3":
                return await self._fetch_s3(source, holder)
            if parts.scheme in ("http", "https"):
                return await self._fetch_http(source, holder)
            if parts.scheme == "file" and parts.netloc in ("", "localhost"):
                return await self._fetch_local(Path(unquote(parts.path)), source, holder)
            if source.url.startswith(("/", "~")):
                return await self._fetch_local(Path(source.url).expanduser(), source, holder)
        raise PermanentError(
            f'"{source.url}" is no place for model data: use s3://bucket/key, https://..., '
            "file:///path or the path of a directory"
        )

    # S3 -----------------------------------------------------------------------------------

    async def _fetch_s3(self, source: ArtifactSource, holder: str) -> Artifact:
        bucket, key = _split_s3(source.url)
        if source.form == "tree":
            objects = [
                (found.key, found.etag, found.size)
                async for found in self._storage.list(bucket, key)
                if not found.key.endswith("/")
            ]
            if not objects:
                raise NotFound(f"no object lies under {source.url}")
            digest = _digest(source, *(part for item in objects for part in item))
            make = partial(self._make_tree, bucket, key, objects)
        else:
            head = await self._storage.head(bucket, key)
            digest = _digest(source, head.etag, head.size)
            make = partial(self._make_object, source, bucket, key)
        return await self._get(digest, make, holder)

    async def _make_object(
        self, source: ArtifactSource, bucket: str, key: str, entry: Path
    ) -> None:
        download = entry / "download"
        await self._storage.download(bucket, key, download)
        await self._finish(source, download, key.rsplit("/", 1)[-1], entry)

    async def _make_tree(
        self, bucket: str, prefix: str, objects: list[tuple[str, str, int]], entry: Path
    ) -> None:
        self._check_size(len(objects), sum(size for _, _, size in objects))
        # A prefix ends at a folder for what is under it: "m/v1" holds "m/v1/x" as "x".
        folder = prefix if prefix.endswith("/") else f"{prefix}/"
        for key, _, _ in objects:
            name = key.removeprefix(folder) if key.startswith(folder) else key.rsplit("/", 1)[-1]
            path = (entry / FILES).joinpath(*_checked_parts(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            await self._storage.download(bucket, key, path)
            path.chmod(0o444)

    # HTTP ---------------------------------------------------------------------------------

    async def _fetch_http(self, source: ArtifactSource, holder: str) -> Artifact:
        def look(check: Check) -> tuple[str, ...]:
            with _open_url(source.url) as reply:
                facts = (reply.headers.get(n, "") for n in ("ETag", "Last-Modified"))
                return (*facts, reply.headers.get("Content-Length", ""))

        etag, modified, length = await run_stoppable(self._executor, look)
        # Without either nothing tells whether it changed: every instance gets what is there now.
        validators = (etag, modified, length) if etag or modified else (os.urandom(8).hex(),)

        async def make(entry: Path) -> None:
            download = entry / "download"

            def copy(check: Check) -> None:
                with _open_url(source.url) as reply, download.open("wb") as target:
                    expected = reply.headers.get("Content-Length")
                    received = 0
                    while piece := reply.read(_CHUNK_BYTES):
                        check()
                        received += len(piece)
                        if received > self._limits.max_bytes:
                            raise PermanentError("the file is over fleet.max_artifact_bytes")
                        target.write(piece)
                if expected is not None and received != int(expected):
                    raise TransientError(f"got {received} of {expected} bytes")

            await run_stoppable(self._executor, copy)
            name = unquote(urlsplit(source.url).path).rsplit("/", 1)[-1]
            await self._finish(source, download, name, entry)

        return await self._get(_digest(source, *validators), make, holder)

    # Local --------------------------------------------------------------------------------

    async def _fetch_local(self, path: Path, source: ArtifactSource, holder: str) -> Artifact:
        if not path.exists():
            raise NotFound(f"there is nothing at {path}")
        self._check_root(path)

        def look(check: Check) -> list[tuple[Path, os.stat_result]]:
            files = []
            for file in _walk(path, check) if path.is_dir() else [path]:
                files.append((file, file.stat()))
                self._check_size(len(files), 0)
            self._check_size(len(files), sum(found.st_size for _, found in files))
            return files

        files = await run_stoppable(self._executor, look)
        facts = [
            fact
            for file, found in files
            for fact in (str(file), found.st_size, found.st_mtime_ns, found.st_ino)
        ]

        async def make(entry: Path) -> None:
            if not path.is_dir():
                await self._finish(source, path, path.name, entry)
                return

            def copy(check: Check) -> None:
                for file, _ in files:
                    self._check_root(file)
                    _copy(file, entry / FILES / file.relative_to(path), check)

            (entry / FILES).mkdir()
            await run_stoppable(self._executor, copy)

        return await self._get(_digest(source, *facts), make, holder)

    def _check_root(self, path: Path) -> None:
        real = path.resolve()
        if not any(real.is_relative_to(root) for root in self._file_roots):
            raise PermanentError(
                f"{real} lies outside the directories that local model data may come from "
                "(setting storage.file_roots)"
            )

    # All ----------------------------------------------------------------------------------

    async def _get(
        self, key: str, make: Callable[[Path], Awaitable[None]], holder: str
    ) -> Artifact:
        async def make_and_check(entry: Path) -> None:
            with _disk_errors():
                await make(entry)

        entry = await self._cache.get(key, make_and_check, holder=holder)
        return Artifact(key, entry / FILES)

    async def _finish(self, source: ArtifactSource, download: Path, name: str, entry: Path) -> None:
        """Turn a downloaded file into the entry's files; it is removed if it lies in the entry."""
        files = entry / FILES
        files.mkdir()

        def work(check: Check) -> None:
            if source.form == "archive":
                unpack(download, files, self._limits, check=check)
            else:
                _copy(download, files.joinpath(*_checked_parts(name)), check)
            if download.parent == entry:
                download.unlink()

        await run_stoppable(self._executor, work)

    def _check_size(self, count: int, size: int) -> None:
        if count > self._limits.max_files:
            raise BadArchive(
                f"it holds more than {self._limits.max_files} files (limit "
                "fleet.max_artifact_files)"
            )
        if size > self._limits.max_bytes:
            raise BadArchive(
                f"it holds more than {self._limits.max_bytes} bytes (limit "
                "fleet.max_artifact_bytes)"
            )


def _split_s3(url: str) -> tuple[str, str]:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    if not bucket:
        raise PermanentError(f'"{url}" names no bucket')
    return bucket, key


def _digest(source: ArtifactSource, *facts: object) -> str:
    text = "\0".join([source.form, source.url, *map(str, facts)])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:40]


def _checked_parts(name: str) -> list[str]:
    """Return the path of an object below the artifact's directory.

    Raises:
        BadArchive: It would lead out of it. Keys of objects may look like anything.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or "\0" in name:
        raise BadArchive(f"object {name!r} has a name that cannot be a file's")
    return parts


def _walk(directory: Path, check: Check) -> Iterator[Path]:
    """Yield all files below a directory, in order; links are followed, but never in a circle."""
    seen = set()
    for folder, folders, names in os.walk(directory, followlinks=True):
        check()
        found = os.stat(folder)
        if (found.st_dev, found.st_ino) in seen:
            folders.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        folders.sort()
        if "__pycache__" in folders:
            folders.remove("__pycache__")
        for name in sorted(names):
            file = Path(folder, name)
            if file.is_file():
                yield file


def _copy(source: Path, target: Path, check: Check) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reader, target.open("xb") as writer:
        while piece := reader.read(_CHUNK_BYTES):
            check()
            writer.write(piece)
    target.chmod(0o555 if source.stat().st_mode & 0o100 else 0o444)


@contextlib.contextmanager
def _open_url(url: str) -> Iterator[HTTPResponse]:
    request = urllib.request.Request(url, headers={"User-Agent": "clary"})  # noqa: S310
    try:
        with urllib.request.urlopen(  # noqa: S310 - the caller checked the scheme
            request, timeout=_HTTP_TIMEOUT_S, context=ssl.create_default_context()
        ) as reply:
            yield reply
    except urllib.error.HTTPError as error:
        with error:
            if error.code >= 500 or error.code == 429:
                raise TransientError(f"the server answered {error.code}") from error
            raise NotFound(f"the server answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLError):
            raise PermanentError(f"no trusted connection: {error.reason}") from error
        raise TransientError(f"no connection: {error.reason}") from error
    except (HTTPException, TimeoutError, ConnectionError) as error:
        raise TransientError(f"the connection broke: {error!r}") from error


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    """Say what a failed write means."""
    try:
        yield
    except ConnectionError as error:
        raise TransientError(f"the connection broke: {error!r}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PermanentError(
                "the server ran out of disk space while it fetched and unpacked the model data. "
                "Free some space in the data directory, then create the endpoint again"
            ) from error
        raise PermanentError(f"the model data cannot be written or read: {error}") from error
