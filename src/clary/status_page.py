"""A page through which a worker shows what it is doing, without a word, and beyond its death.

A worker in the middle of a long call cannot answer a ping, and must not be replaced for that; one
that hangs must. So it writes into a shared page when its current call began, for about 40 ns a
call, and the host reads that when a ping stays unanswered.

For each connection it also writes which request it began last. When it dies, routers read that:
what came later was not begun, and can go to another worker. What came before may have been done,
also where no answer came::

    0                                       8                16               24
    +---------------------------------------+----------------+----------------+----------------+
    | start of the current call, ns, or 0   | calls so far   | the worker's   | of no account  |
    |                                       |                | life           |                |
    +---------------------------------------+----------------+----------------+----------------+
    | memory in MB that it has exceeded,    | id of the request begun last, for each place     |
    | or 0 (the host writes that)           | that a connection can have (HELLO tells it)      |

in native byte order. Standard library only, Python 3.9: workers import this.
"""

import errno
import mmap
import os
import struct
from typing import List, NamedTuple, Optional, Tuple

WORDS = 32
SIZE = 8 * WORDS
NO_PLACE = 3
"""Index of what is written for connections without a place, and never read."""
MEMORY_LIMIT = 4
"""Index of the memory that a worker may have, once it has taken more and is killed for it."""
FIRST_PLACE = 5
_PAGE = struct.Struct(f"={WORDS}Q")


def status_path(socket_path: str) -> str:
    """Return where the page of the worker that listens there is."""
    return os.path.splitext(socket_path)[0] + ".status"


def create_page(path: str, life: int = 0) -> memoryview:
    """Create the file of a worker and return it as writable integers.

    Index 0 is the start of the current call on the monotonic clock in nanoseconds, 0 when idle.
    Index 1 counts calls. From ``FIRST_PLACE`` on are the requests that were begun last.

    Args:
        path: The file.
        life: As in the HELLO; 0: it takes no requests yet.

    Raises:
        OSError: The file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        # Written and not only made longer: with its space taken now, a full disk cannot end the
        # worker by SIGBUS in its first call.
        os.write(descriptor, bytes(SIZE))
        page = memoryview(mmap.mmap(descriptor, SIZE)).cast("Q")
        page[2] = life
        return page
    finally:
        os.close(descriptor)


def read_page(path: str) -> Optional[Tuple[int, int]]:
    """Return start of the current call (ns, 0: idle) and count of calls; None without a page."""
    try:
        with open(path, "rb") as file:
            words = _words(file.read(SIZE))
    except OSError:
        return None
    return None if words is None else (words[0], words[1])


def memory_exceeded(limit_mb: int) -> str:
    """Return what a client is told of a worker that was killed for its memory."""
    return (
        f"The model took more memory than the {limit_mb} MB of its serverless variant "
        "(MemorySizeInMB); its worker is stopped."
    )


def note_memory_limit(path: str, limit_mb: int) -> None:
    """Tell routers why a worker is about to be killed.

    Raises:
        OSError: It has no page.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, struct.pack("=Q", limit_mb), 8 * MEMORY_LIMIT)
    finally:
        os.close(descriptor)


class Remains(NamedTuple):
    """What a worker that has died tells of its end."""

    last_begun: int
    """Id of the request that it began last of those that came on one connection; 0: none."""
    memory_limit_mb: int
    """The memory that it was killed for exceeding; 0: it was not."""


class PageReader:
    """Reads a worker's page, for who sends it requests on one connection.

    The file stays open, because a worker that is started again has another one at the same path.
    It is read and not mapped, because the model's process could make it shorter.
    """

    def __init__(self, path: str, life: int, place: int) -> None:
        """Open the page.

        Args:
            path: The worker's file.
            life: The worker's, from its HELLO.
            place: The connection's, from the HELLO.

        Raises:
            OSError: It cannot be opened, or the connection has no place in it.
        """
        if not FIRST_PLACE <= place < WORDS:
            raise OSError(errno.ENOENT, "no place in the page", path)
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self._life = life
        self._place = place

    def read(self) -> Optional[Remains]:
        """Return what the page says; None: it is not known."""
        try:
            words = _words(os.pread(self._file, SIZE, 0))
        except OSError:
            return None
        if words is None or words[2] != self._life:
            return None
        return Remains(words[self._place], words[MEMORY_LIMIT])

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _words(data: bytes) -> Optional[List[int]]:
    return list(_PAGE.unpack(data)) if len(data) == SIZE else None
