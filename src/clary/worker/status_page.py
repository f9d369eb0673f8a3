"""Sixteen bytes through which a worker shows its host what it is doing, without a word.

A worker in the middle of a long call cannot answer a ping, and must not be replaced for that; one
that hangs must. So it writes into a shared page when its current call began, for about 40 ns a
call, and the host reads that when a ping stays unanswered::

    0                                   8                    16
    +-----------------------------------+---------------------+
    | start of the current call, ns, or 0 | calls so far        |   native byte order
    +-----------------------------------+---------------------+
"""

import mmap
import os
import struct
from typing import Optional, Tuple

SIZE = 16
_PAGE = struct.Struct("=QQ")


def create_page(path: str) -> memoryview:
    """Create the file of a worker and return it as two writable integers.

    Index 0 is the start of the current call on the monotonic clock in nanoseconds, 0 when idle.
    Index 1 counts calls.

    Raises:
        OSError: The file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        # Written and not only made longer: with its space taken now, a full disk cannot end the
        # worker by SIGBUS in its first call.
        os.write(descriptor, bytes(SIZE))
        return memoryview(mmap.mmap(descriptor, SIZE)).cast("Q")
    finally:
        os.close(descriptor)


def read_page(path: str) -> Optional[Tuple[int, int]]:
    """Return start of the current call (ns, 0: idle) and count of calls; None without a page."""
    try:
        with open(path, "rb") as file:
            data = file.read(SIZE)
    except OSError:
        return None
    if len(data) < SIZE:
        return None
    start, count = _PAGE.unpack(data)
    return start, count
