"""Processes of another life of the server.

After ``kill -9`` of everything, a host that was stuck or a worker deep in C code may still run, and
hold memory, GPUs and the paths that its successor needs. They are known by their command line: one
of our words, and the file that says what the instance is, which lies in this data directory.
"""

import os
import select
import signal
import time
from collections.abc import Collection
from pathlib import Path

_WORDS = (b"clary-host", b"clary-worker", b"clary-template")
_WAIT_S = 5.0


def kill_leftovers(spec_files: Collection[Path], *, proc: Path = Path("/proc")) -> list[int]:
    """Kill hosts and workers of these instances, and wait until they are gone. Blocks.

    Args:
        spec_files: ``spec.json`` of instances that nobody in this life has started.
        proc: Where the system lists its processes.

    Returns:
        Pids that were killed.
    """
    wanted = {bytes(file) for file in spec_files}
    if not wanted:
        return []
    killed = []
    descriptors = []
    try:
        for entry in proc.iterdir():
            if not entry.name.isdigit() or not _is_of(entry, wanted):
                continue
            try:
                descriptor = os.pidfd_open(int(entry.name))
            except OSError:
                continue  # gone
            descriptors.append(descriptor)
            # Looked at again behind the descriptor: the number may have gone to another process.
            if _is_of(entry, wanted):
                try:
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                except OSError:
                    continue
                killed.append(int(entry.name))
        deadline = time.monotonic() + _WAIT_S
        for descriptor in descriptors:
            # A process descriptor becomes readable when the process ends.
            select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return killed


def _is_of(entry: Path, wanted: set[bytes]) -> bool:
    try:
        words = (entry / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(word in words for word in _WORDS) and not wanted.isdisjoint(words)
