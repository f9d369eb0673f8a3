"""The example of a serverless endpoint runs as it is, with a library that takes long to import."""

import shlex
import sys
from pathlib import Path

from pages import ROOT
from server import Server
from serverless import wait_for_template, wait_for_workers
from shell import in_a_terminal

SCRIPT = ROOT / "examples/serverless/serverless.py"


def test_the_example_and_a_forked_worker_agree(tmp_path: Path) -> None:
    settings = {"CLARY_DATA_DIR": str(tmp_path / "data"), "CLARY_SERVERLESS_IDLE_S": "2"}
    with Server(tmp_path, **settings) as server:
        done = in_a_terminal(server, f"{shlex.quote(sys.executable)} {SCRIPT}", tmp_path)
        assert done.returncode == 0, done.stderr
        assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
            "flower 0 is of kind 0",
            "flower 60 is of kind 1",
            "flower 120 is of kind 2",
        ]

        # With scikit-learn in it the template is still fit to be forked.
        wait_for_template(server, "iris")
        wait_for_workers(server, "iris", 0)
        body = b"[[5.1, 3.5, 1.4, 0.2]]"
        assert server.invoke("iris", body, Accept="application/json") == b"[0]"
        assert server.pids("clary-template", "iris/")
        (log,) = (server.data_dir / "logs/endpoints/iris/AllTraffic").glob("*.log")
        assert "are not forked" not in log.read_text()
