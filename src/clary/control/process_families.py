"""What the server's own processes use, for Prometheus and OpenTelemetry.

They are the children of the supervisor, and this process is one of them; each is told by the words
of its command line. Instances are not here: there may be thousands, and they have metrics of their
own.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clary.metrics.families import Family, counter, gauge

CPU = counter(
    "clary_process_cpu_seconds_total",
    "Processor time of one of the server's own processes.",
    "process",
    unit="seconds",
)
MEMORY = gauge(
    "clary_process_resident_memory_bytes",
    "Memory of one of the server's own processes, shared libraries included.",
    "process",
    unit="bytes",
)
FILES = gauge("clary_process_open_fds", "Open file descriptors.", "process")
STARTED = gauge(
    "clary_process_start_time_seconds",
    "When the process was started, in seconds since 1970.",
    "process",
    unit="seconds",
)

ON_DEMAND = "jobs"
"""Processes on demand have one word in common, and their own as the last one."""

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process uses."""

    name: str
    cpu_s: float
    memory_bytes: int
    open_files: int
    started_at: float


class ProcessFamilies:
    """Measures the processes below a supervisor, and itself.

    Args:
        supervisor: Its process id.
    """

    def __init__(self, supervisor: int) -> None:
        self._supervisor = supervisor
        self._names: dict[tuple[int, int], str] = {}
        """By process id and start; empty for those that are no process of the server's own."""

    def families(self) -> list[Family]:
        """Return all families. Reads ``/proc``: call it in a thread where there are many."""
        cpu, memory, files, started = (Family(each) for each in (CPU, MEMORY, FILES, STARTED))
        for usage in self._measure():
            cpu.add(usage.cpu_s, usage.name)
            memory.add(float(usage.memory_bytes), usage.name)
            files.add(float(usage.open_files), usage.name)
            started.add(usage.started_at, usage.name)
        return [cpu, memory, files, started]

    def _measure(self) -> Iterator[Usage]:
        booted_at = _booted_at()
        seen: dict[tuple[int, int], str] = {}
        for pid in (self._supervisor, *_children(self._supervisor)):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks = int(fields[19])
                name = self._names.get((pid, ticks))
                if name is None:
                    name = process_name(Path(f"/proc/{pid}/cmdline").read_bytes())
                seen[pid, ticks] = name
                if not name:
                    continue
                yield Usage(
                    name,
                    (int(fields[11]) + int(fields[12])) / _TICKS,
                    int(fields[21]) * _PAGE,
                    len(os.listdir(f"/proc/{pid}/fd")),
                    booted_at + ticks / _TICKS,
                )
            except (OSError, ValueError, IndexError):
                continue  # it has just ended
        self._names = seen


def process_name(command_line: bytes) -> str:
    """Return the name of one of the server's own processes; empty for any other.

    Args:
        command_line: Words that end with a zero byte each.
    """
    words = [word.decode("utf-8", "replace") for word in command_line.split(b"\0")[:-1]]
    for index, word in enumerate(words):
        if word == "clary-supervisor":
            return "supervisor"
        if word in ("clary-gateway", "clary-control", "clary-objects", "clary-jobs"):
            kind = word.removeprefix("clary-")
            rest = words[index + 2 :]  # after the run directory
            if not rest:
                return kind
            return rest[0] if kind == ON_DEMAND else f"{kind}-{rest[0]}"
    return ""


def _children(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        return [
            int(child)
            for thread in threads
            for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
        ]
    except (OSError, ValueError):
        return []


def _booted_at() -> float:
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0
