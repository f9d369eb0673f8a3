"""Inputs and outputs of asynchronous invocations, and how long their transfers took."""

import asyncio
import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clary.errors import AlreadyExists, Error, NotFound, TransientError
from clary.jobs.async_call import SMALL_BYTES, Body
from clary.jobs.async_plan import pause_s
from clary.objects.client import ObjectInfo, ObjectStorage
from clary.resources.async_inference import split_location
from clary.store.async_rows import Lease

INVOCATION = "clary-invocation"
"""Metadata of objects that says which invocation wrote them."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fetched:
    """An invocation's input."""

    body: Body
    took_us: int | None
    """None: it came with the call."""


class AsyncFiles:
    """Reads inputs and writes outputs.

    Args:
        storage: S3.
        directory: For long bodies while they travel; what is in it is of no use after a restart.
        max_bytes: Longest input.
        write_for_s: How long writing is tried, in seconds.
    """

    def __init__(
        self, storage: ObjectStorage, directory: Path, *, max_bytes: int, write_for_s: float
    ) -> None:
        self._storage = storage
        self._directory = directory
        self._max_bytes = max_bytes
        self._write_for_s = write_for_s
        self._long: set[tuple[int, int]] = set()
        """Leases that have files."""

    def clear(self) -> None:
        """Remove what an earlier process left."""
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True, exist_ok=True)

    def path(self, lease: Lease, kind: str) -> Path:
        """Return where a long body of an invocation is to lie."""
        self._long.add((lease.seq, lease.attempt))
        return self._path(lease, kind)

    def _path(self, lease: Lease, kind: str) -> Path:
        return self._directory / f"{lease.seq}-{lease.attempt}.{kind}"

    def remove(self, lease: Lease) -> None:
        """Remove the long bodies of an invocation."""
        if (lease.seq, lease.attempt) in self._long:
            self._long.discard((lease.seq, lease.attempt))
            for kind in ("in", "out"):
                self._path(lease, kind).unlink(missing_ok=True)

    async def fetch(self, lease: Lease) -> Fetched:
        """Return the input.

        Raises:
            NotFound: It is not there.
            AccessDenied: It may not be read.
            PermanentError: It is too long, or cannot be read for another reason.
            TransientError: It may work later.
        """
        location = lease.order.input_location
        if location is None:
            return Fetched(lease.body or b"", None)
        began = time.monotonic()
        bucket, key = split_location(location)
        path = self._path(lease, "in")
        content = await self._storage.fetch(
            bucket, key, path, small_bytes=SMALL_BYTES, max_bytes=self._max_bytes
        )
        if content is None:
            return Fetched(self.path(lease, "in"), _since(began))
        return Fetched(content, _since(began))

    async def write(
        self,
        location: str,
        content: Body,
        lease: Lease,
        *,
        content_type: str = "",
        facts: Mapping[str, str] | None = None,
        is_new: bool = True,
    ) -> int:
        """Write an object; return how long it took, in microseconds.

        Tried again while S3 is away. That an earlier attempt at the invocation has written it
        already is as good.

        Args:
            location: Its URL.
            content: What is written.
            lease: For whom.
            content_type: Of the content.
            facts: Further metadata.
            is_new: Whether there can be no object of somebody else there.

        Raises:
            Error: It cannot be written.
        """
        bucket, key = split_location(location)
        metadata = {INVOCATION: str(lease.seq), **(facts or {})}
        began = time.monotonic()
        attempt = 0
        while True:
            try:
                await self._storage.upload(
                    bucket,
                    key,
                    content,
                    content_type=content_type,
                    metadata=metadata,
                    is_new=is_new,
                )
            except AlreadyExists:
                _log.info("%s was written by an earlier attempt", location)
            except (TransientError, OSError) as error:
                if time.monotonic() - began > self._write_for_s:
                    raise
                if attempt == 0:
                    _log.warning("%s waits: %s", location, error)
                await asyncio.sleep(pause_s(attempt))
                attempt += 1
                continue
            return _since(began)

    async def find(self, location: str | None, lease: Lease) -> ObjectInfo | None:
        """Return the object that an earlier attempt at an invocation wrote, or None.

        Raises:
            TransientError: It cannot be looked for now.
        """
        if location is None:
            return None
        bucket, key = split_location(location)
        try:
            found = await self._storage.head(bucket, key)
        except NotFound:
            return None
        except TransientError:
            raise
        except Error as error:  # it can be written, and not be read
            _log.info("%s: %s", location, error)
            return None
        return found if found.metadata.get(INVOCATION) == str(lease.seq) else None

    async def read(self, location: str) -> bytes:
        """Return what is in an object."""
        return await self._storage.get(*split_location(location))


def _since(began: float) -> int:
    return int((time.monotonic() - began) * 1e6)
