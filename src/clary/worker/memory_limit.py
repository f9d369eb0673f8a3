"""How a worker of a serverless variant hears that it has taken more memory than it may.

The host looks at how much its workers take (``host.py``), for an allocation that fails inside a
library ends in many ways, and few that explain themselves. The signal it sends becomes an exception
in whatever the main thread does: the call that took the memory fails with a text that says so. Half
a second later the process is killed, whether it took heed or not; routers find the reason in its
status page.
"""

import os
import signal
from types import FrameType
from typing import Optional

from clary.status_page import memory_exceeded
from clary.worker.scaled_watch import MEMORY_SIGNAL

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MB = 1024 * 1024


class MemoryLimitExceeded(BaseException):
    """The process has taken more memory than its variant has.

    No ``Exception``, so that a model that catches those does not go on as if nothing were.
    """


def obey_limit(limit_mb: int) -> None:
    """Have the signal raise. To be called on the main thread."""

    def tell(number: int, frame: Optional[FrameType]) -> None:
        raise MemoryLimitExceeded(memory_exceeded(limit_mb))

    signal.signal(MEMORY_SIGNAL, tell)


def resident_mb(pid: int) -> int:
    """Return the memory of a process in MB (of 1024 * 1024 bytes); 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            pages = int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * PAGE_BYTES // MB
