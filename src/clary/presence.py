"""Which processes are alive, as the kernel knows it: each has a file that it keeps locked.

A lock goes with its process, however that ends, so that nobody has to be believed, waited for or
cleaned up after.
"""

import fcntl
import os
from pathlib import Path

FOLLOWERS = "followers"
"""Directory of those who follow the routes, in the server's run directory."""


def show_presence(directory: Path, name: str) -> None:
    """Count as alive under a name, until this process ends.

    Raises:
        OSError: The file cannot be made.
    """
    directory.mkdir(exist_ok=True)
    descriptor = os.open(directory / name, os.O_RDWR | os.O_CREAT, 0o600)
    # Waits for a process of that name that is just ending, or for somebody who looks.
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def present(directory: Path) -> set[str]:
    """Return the names that processes are alive under."""
    if not directory.exists():
        return set()
    return {file.name for file in directory.iterdir() if is_locked(file)}


def is_locked(file: Path) -> bool:
    """Whether a process holds a lock on a file, of whatever kind; False where there is none."""
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # also where the file system has no locks: nobody can say that it is not
        return True
    finally:
        os.close(descriptor)
    return False
