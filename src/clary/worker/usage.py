"""What the processes of an instance use: processor, memory, disk and GPUs.

Measured by the host, which is where they run, whenever it is asked. Processes that workers have
started count with them.
"""

import os
import subprocess
import time
from typing import Any, Dict, Iterable, List, Mapping, Optional, Set, Tuple

from clary.worker.memory import memory_kib

_TICKS = os.sysconf("SC_CLK_TCK")
_MEMORY_KIB = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024

GPU_COMMAND = (
    "nvidia-smi --query-gpu=index,memory.total --format=csv,noheader,nounits && echo --- "
    "&& nvidia-smi --query-compute-apps=pid,used_memory --format=csv,noheader,nounits "
    "&& echo --- && nvidia-smi pmon -c 1 -s u"
)
"""Takes about a second: it runs beside the host, and is read when the host is asked again."""


class UsageMeter:
    """Measures from one call to the next."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._seen: Dict[int, float] = {}
        """Seconds of processor time by process, as of the last call."""
        self._seen_at = time.monotonic()
        self._gpus = GpuMeter()

    def measure(self, containers: Mapping[str, Iterable[int]]) -> Dict[str, Any]:
        """Return what worker processes and all below them use; percentages of one core or GPU.

        Of several containers, what each uses of processor and memory is there as well, by name.

        Args:
            containers: Process ids of the workers of each container, by its name.
        """
        families = {name: _with_children(workers) for name, workers in containers.items()}
        pids = set().union(*families.values())
        now = time.monotonic()
        seen = {pid: seconds for pid in pids for seconds in [_cpu_seconds(pid)] if seconds >= 0}
        # A process that is new has used all of it since the last time.
        used_s = {pid: seconds - self._seen.get(pid, 0.0) for pid, seconds in seen.items()}
        elapsed_s = max(now - self._seen_at, 1e-3)
        self._seen, self._seen_at = seen, now
        memory = {pid: memory_kib(pid) for pid in pids}

        def share(family: Set[int]) -> Dict[str, Any]:
            kib = sum(memory[pid] for pid in family)
            seconds = sum(used_s.get(pid, 0.0) for pid in family)
            return {
                "cpu_percent": max(100.0 * seconds / elapsed_s, 0.0),
                "memory_kib": kib,
                "memory_percent": 100.0 * kib / _MEMORY_KIB,
            }

        usage = {**share(pids), **_disk(self._directory), **self._gpus.measure(pids)}
        if len(families) > 1:
            usage["containers"] = {name: share(family) for name, family in families.items()}
        return usage


class GpuMeter:
    """Asks ``nvidia-smi``, where there is one."""

    def __init__(self) -> None:
        self._running: Optional["subprocess.Popen[str]"] = None
        self._is_there = True

    def measure(self, pids: Set[int]) -> Dict[str, float]:
        """Return what processes used of GPUs when this was last called; empty where none is."""
        found: Dict[str, float] = {}
        if self._running is not None:
            if self._running.poll() is None:
                return {}  # slow: next time
            text, _ = self._running.communicate()
            self._is_there = self._running.returncode == 0
            self._running = None
            if self._is_there:
                found = read_gpu_usage(text, pids)
        if self._is_there and _find_nvidia_smi():
            self._running = subprocess.Popen(
                ["/bin/sh", "-c", GPU_COMMAND],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                universal_newlines=True,
            )
        return found


def read_gpu_usage(text: str, pids: Set[int]) -> Dict[str, float]:
    """Return percentages of one GPU, over all GPUs, from what ``GPU_COMMAND`` printed.

    Empty where the processes use none.
    """
    totals, apps, samples = [*text.split("---\n"), "", ""][:3]
    memories = [float(row[1]) for row in _rows(totals, ",") if len(row) == 2 and _is_number(row[1])]
    used_mib = [
        float(row[1])
        for row in _rows(apps, ",")
        if len(row) == 2 and row[0].isdigit() and int(row[0]) in pids and _is_number(row[1])
    ]
    if not memories or not used_mib:
        return {}
    busy = [
        float(row[3])
        for row in _rows(samples, None)
        if len(row) > 3 and row[1].isdigit() and int(row[1]) in pids and _is_number(row[3])
    ]
    size_mib = max(memories)
    return {
        "gpu_percent": sum(busy),
        "gpu_memory_percent": 100.0 * sum(used_mib) / size_mib if size_mib else 0.0,
    }


def _rows(text: str, separator: Optional[str]) -> List[List[str]]:
    return [[cell.strip() for cell in line.split(separator)] for line in text.splitlines()]


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def _find_nvidia_smi() -> bool:
    return any(
        os.access(os.path.join(directory, "nvidia-smi"), os.X_OK)
        for directory in os.environ.get("PATH", os.defpath).split(os.pathsep)
    )


def _with_children(pids: Iterable[int]) -> Set[int]:
    """Return processes and all that are below them."""
    found: Set[int] = set()
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        if pid in found:
            continue
        found.add(pid)
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            try:
                with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                    waiting.extend(int(child) for child in file.read().split())
            except OSError:
                pass
    return found


def _cpu_seconds(pid: int) -> float:
    """Return the processor time of a process; -1 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields: Tuple[bytes, ...] = tuple(file.read().rpartition(b")")[2].split())
        return (int(fields[11]) + int(fields[12])) / _TICKS
    except (OSError, ValueError, IndexError):
        return -1.0


def _disk(directory: str) -> Dict[str, float]:
    """Return how full the disk is that an instance's files are on."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return {}
    size = disk.f_blocks or 1
    return {"disk_percent": 100.0 * (size - disk.f_bfree) / size}
