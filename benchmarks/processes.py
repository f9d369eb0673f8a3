"""Processes beside Clary, and the memory of any."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from server import Server


class Peer:
    """A process that serves, in a process group of its own, until the end of the block."""

    def __init__(self, argv: list[str], log: Path, **environment: str) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                argv,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def is_alive(self) -> bool:
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-2000:]
        return True

    def stop(self) -> None:
        """End the process, by force when it does not listen."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                os.killpg(self.process.pid, number)
                try:
                    self.process.wait(5)
                except subprocess.TimeoutExpired:
                    continue


PINNED = (
    "Client, gateway and production workers are pinned to one core, all other processes to the "
    "next: left alone, the kernel moves them about, which on two cores costs a call more than what "
    "is measured here."
)


@contextlib.contextmanager
def pinned(server: Server, shadow: str) -> Iterator[None]:
    """Keep who serves production apart from all others, until the end of the block.

    Args:
        server: Its processes stay pinned.
        shadow: Begins the name of shadow variants.
    """
    before = os.sched_getaffinity(0)
    first, second, *_ = sorted(before)
    others = ("control", "objects", "jobs", "host", "supervisor")
    copies = {pid for pid in server.pids("clary-worker") if f"/{shadow}" in _title(pid)}
    for pid in (*copies, *(p for role in others for p in server.pids(f"clary-{role}"))):
        _pin(pid, {second})
    for pid in {*server.pids("clary-worker"), *server.pids("clary-gateway")} - copies:
        _pin(pid, {first})
    os.sched_setaffinity(0, {first})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _pin(pid: int, cores: set[int]) -> None:
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), cores)


def _title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def resident_mb(pid: int) -> float:
    """Resident memory in MB (10^6 bytes), libraries that are shared with others included."""
    return _kb(Path(f"/proc/{pid}/status"), "VmRSS:") * 1024 / 1e6


def proportional_mb(pid: int) -> float:
    """The process's own memory and its share of what it shares with others, in MB."""
    return _kb(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") * 1024 / 1e6


def _kb(file: Path, name: str) -> int:
    for line in file.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0


def cpu_s(server: Server, word: str) -> float:
    """Processor time that a server's processes with a word in their command line have used."""
    tick = os.sysconf("SC_CLK_TCK")
    used = 0
    for pid in server.pids(word):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used += int(fields[11]) + int(fields[12])
    return used / tick
