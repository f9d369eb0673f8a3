"""What an instance's processes use, of real processes; GPUs from what their tool prints."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from clary.worker.usage import UsageMeter, read_gpu_usage

BUSY = """
import subprocess, sys, time
if len(sys.argv) == 1:
    child = subprocess.Popen([sys.executable, __file__, "child"])
    print("ready", flush=True)
    child.wait()
data = bytearray(50_000_000)
until = time.monotonic() + 60
while time.monotonic() < until:
    pass
"""


def test_a_workers_children_count(tmp_path: Path) -> None:
    program = tmp_path / "busy.py"
    program.write_text(BUSY)
    worker = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE)
    try:
        assert worker.stdout is not None
        worker.stdout.readline()
        meter = UsageMeter(str(tmp_path))
        meter.measure({"primary": [worker.pid]})
        until = time.monotonic() + 20
        usage = meter.measure({"primary": [worker.pid]})
        while time.monotonic() < until and not (
            usage["cpu_percent"] > 10 and usage["memory_kib"] > 50_000
        ):
            usage = meter.measure({"primary": [worker.pid]})
            time.sleep(0.1)
        assert 10 < usage["cpu_percent"] < 150
        assert usage["memory_kib"] > 50_000
        assert 0 < usage["memory_percent"] < 100
        assert 0 < usage["disk_percent"] <= 100
    finally:
        subprocess.run(["kill", "-9", *_children(worker.pid), str(worker.pid)], check=False)
        worker.wait()
        if worker.stdout is not None:
            worker.stdout.close()


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_what_is_gone_uses_nothing(tmp_path: Path) -> None:
    usage = UsageMeter(str(tmp_path / "missing")).measure({"primary": [2**22 + 1]})
    assert usage["cpu_percent"] == 0
    assert usage["memory_kib"] == 0
    assert "disk_percent" not in usage
    assert "containers" not in usage


PATIENT = """
import sys
data = bytearray(50_000_000)
sum(range(5_000_000))
print(flush=True)
sys.stdin.read()
"""


def test_each_of_several_containers_has_its_part(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PATIENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        usage = UsageMeter(str(tmp_path)).measure({"first": [worker.pid], "second": [2**22 + 1]})
        assert worker.stdin is not None
        worker.stdin.close()
    parts = usage["containers"]
    assert parts["first"]["memory_kib"] == usage["memory_kib"] > 40_000
    assert parts["first"]["cpu_percent"] == usage["cpu_percent"] > 0
    assert parts["second"] == {"cpu_percent": 0.0, "memory_kib": 0, "memory_percent": 0.0}


PRINTED = """0, 81920
1, 81920
---
100, 8192
200, 4096
100, 8192
---
# gpu         pid   type     sm    mem    enc    dec    jpg    ofa    command
# Idx           #    C/G      %      %      %      %      %      %    name
    0        100     C     80     10      -      -      -      -    python
    1        100     C     70     10      -      -      -      -    python
    0        200     C      5     10      -      -      -      -    python
    0        300     C      -      -      -      -      -      -    python
"""


@pytest.mark.parametrize(
    ("pids", "expected"),
    [
        ({100}, {"gpu_percent": 150.0, "gpu_memory_percent": 20.0}),
        ({100, 200}, {"gpu_percent": 155.0, "gpu_memory_percent": 25.0}),
        ({300}, {}),
        (set(), {}),
    ],
)
def test_gpus(pids: set[int], expected: dict[str, float]) -> None:
    assert read_gpu_usage(PRINTED, pids) == expected


@pytest.mark.parametrize("text", ["", "---", "[N/A], [N/A]\n---\n1, [N/A]\n---\n", "no GPUs"])
def test_what_says_nothing_of_gpus(text: str) -> None:
    assert read_gpu_usage(text, {1}) == {}
