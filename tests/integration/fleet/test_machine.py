import asyncio
import os
from pathlib import Path

import pytest

from clary.fleet.capacity import Machine


def test_gpus_are_counted_by_nvidias_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: X (UUID: a)'\necho 'GPU 1: X (UUID: b)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert asyncio.run(Machine.measure()).gpus == 2


def test_a_machine_without_the_tool_has_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    machine = asyncio.run(Machine.measure())

    assert machine.gpus == 0
    assert machine.cores >= 1
    assert machine.memory_mib > 100
