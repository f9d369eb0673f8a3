"""How many calls each gateway has open with a serverless endpoint, for all of them to read.

One small file for each endpoint, mapped by every gateway process: a slot of eight bytes for each,
which only its owner writes. So a limit holds for all gateways together, and no call waits for
anybody. Files are opened when a route comes; a call only reads and writes memory.

::

    0               8              16
    +---------------+---------------+----
    | gateway 0     | gateway 1     | ...     open calls, native byte order
    +---------------+---------------+----
"""

import mmap
import os
import shutil
from pathlib import Path

SLOTS = 64
"""Most gateways that share counts; those beyond it only see the others'."""


class SharedCounts:
    """The counts of all serverless endpoints.

    Args:
        directory: Where the files of all lives of the server are.
        life: Name of this life: what others have left behind is removed.
        slot: Number of this gateway.
    """

    def __init__(self, directory: Path, life: str, slot: int) -> None:
        self._directory = directory / life
        self._slot = slot
        self._pages: dict[str, memoryview] = {}
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for other in directory.iterdir():
            if other.name != life:
                shutil.rmtree(other, ignore_errors=True)

    def open(self, endpoint: str) -> None:
        """Begin to share the count of an endpoint, at 0."""
        if endpoint not in self._pages:
            path = self._directory / endpoint
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(descriptor, SLOTS * 8)
                page = memoryview(mmap.mmap(descriptor, SLOTS * 8)).cast("Q")
            finally:
                os.close(descriptor)
            self._pages[endpoint] = page
            self.write(endpoint, 0)  # what a predecessor that was killed has left

    def close(self, endpoint: str) -> None:
        """Share the count of an endpoint no more."""
        self.write(endpoint, 0)
        self._pages.pop(endpoint, None)

    def write(self, endpoint: str, count: int) -> None:
        """Say how many calls this gateway has open."""
        page = self._pages.get(endpoint)
        if page is not None and self._slot < SLOTS:
            page[self._slot] = count

    def of_others(self, endpoint: str) -> int:
        """Return how many calls the other gateways have open, by what they said last."""
        page = self._pages.get(endpoint)
        if page is None:
            return 0
        mine = page[self._slot] if self._slot < SLOTS else 0
        return sum(page) - mine
