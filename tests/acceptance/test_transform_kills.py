"""A transform job goes on where it was, whatever is killed; and ends when it is told to."""

import contextlib
import json
import os
import signal
import sqlite3
from pathlib import Path

import pytest

from server import Server, wait_for
from transforms import a_model, finish, outputs, progress, put, start

pytestmark = pytest.mark.timeout(180)

SLOW = """
import os
import time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    with open(os.environ["SEEN"], "a") as seen:
        seen.write(data[:9] + "\\n")
    time.sleep(0.03)
    return "\\n".join(line.rpartition(",")[2] + "," + line for line in data.splitlines()), accept
"""

ROWS = b"".join(b"%09d,%0120d,%d\n" % (n, n, n * 7) for n in range(150_000))
EXPECTED = b"".join(b"%d,%09d,%0120d,%d\n" % (n * 7, n, n, n * 7) for n in range(150_000))


def prepare(server: Server, seen: Path) -> None:
    a_model(server, "slow", SLOW, SEEN=str(seen))
    put(server, "rows", {"in/a.csv": b"1,2\n", "in/b.csv": ROWS})
    start(server, "killed", "slow", "s3://rows/in", "s3://rows/out", MaxPayloadInMB=1)


def is_half_done(server: Server) -> bool:
    """Half of it is through, and a part of the output is written down as written."""
    if progress(server, "killed")["bytes"]["done"] <= len(ROWS) / 2:
        return False
    with contextlib.closing(sqlite3.connect(server.data_dir / "state.sqlite")) as state:
        kept = state.execute("SELECT etags FROM transform_files WHERE key = 'in/b.csv'").fetchone()
    return json.loads(kept[0]) != []


@pytest.mark.parametrize("victim", ["everything", "clary-jobs", "clary-control", "clary-host"])
def test_a_job_killed_at_half_goes_on_and_its_output_is_the_same(
    tmp_path: Path, victim: str
) -> None:
    seen = tmp_path / "seen"
    with Server(tmp_path) as server:
        prepare(server, seen)
        wait_for(lambda: is_half_done(server), timeout_s=60, what="half of it")
        if victim == "everything":
            server.kill()
            server.start()
        else:
            (pid,) = server.pids(victim)
            os.kill(pid, signal.SIGKILL)
        finish(server, "killed", timeout_s=90)
        assert outputs(server, "rows", "out") == {
            "out/a.csv.out": b"2,1,2\n",
            "out/b.csv.out": EXPECTED,
        }
        starts = seen.read_text().split()
        # What was written in parts before is not done again: that is a third at least.
        first = ROWS[:9].decode()
        assert starts.count(first) == 1
        assert starts.count("1,2") == 1
        uploads = server.s3.list_multipart_uploads(Bucket="rows").get("Uploads", [])
        assert uploads == []


def test_a_job_that_is_stopped_keeps_finished_files_only(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        prepare(server, tmp_path / "seen")
        server.sagemaker.stop_transform_job(TransformJobName="killed")  # before it has begun
        finish(server, "killed", "Stopped")
        assert outputs(server, "rows", "out") == {}
        start(server, "later", "slow", "s3://rows/in", "s3://rows/out", MaxPayloadInMB=1)
        half = len(ROWS) / 2
        wait_for(
            lambda: progress(server, "later")["bytes"]["done"] > half, timeout_s=60, what="half"
        )
        server.sagemaker.stop_transform_job(TransformJobName="later")
        waiter = server.sagemaker.get_waiter("transform_job_completed_or_stopped")
        waiter.wait(TransformJobName="later", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        finish(server, "later", "Stopped")
        assert outputs(server, "rows", "out") == {"out/a.csv.out": b"2,1,2\n"}
        assert server.s3.list_multipart_uploads(Bucket="rows").get("Uploads", []) == []
        wait_for(lambda: not server.pids("clary-worker"), timeout_s=40, what="workers to end")
