"""A worker leaves by itself when nobody above it is left to stop it."""

import contextlib
import os
import signal
from pathlib import Path

from server import Server, wait_for

ECHO = "def model_fn(model_dir): return None\ndef predict_fn(data, model): return data\n"


def test_workers_leave_when_supervisor_and_host_are_killed(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        server.deploy("echo", {"code/inference.py": ECHO})
        workers = server.pids("clary-worker")
        assert workers
        assert server.process is not None
        for pid in [server.process.pid, *server.pids("clary-host")]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        server.process.wait()
        wait_for(lambda: not server.processes(), what="every process to leave")


def test_the_log_holds_only_what_the_model_wrote(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        server.deploy("quiet", {"code/inference.py": ECHO})
        assert "Traceback" not in server.cli("logs", "quiet").stdout
