"""A user's own server as a model: started, probed, replaced, stopped."""

import os
import signal
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from instances import Instance, an_instance, is_alive, rss_kb, wait_for

SERVER = """
import http.server, os, signal, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if os.path.exists("sick") else 200)
        self.end_headers()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body[::-1])

    def log_message(self, *arguments):
        pass

def leave(*arguments):
    print("told to stop", flush=True)
    sys.exit(0)

signal.signal(signal.SIGTERM, leave)
print("serving as", os.getpid(), flush=True)
port = int(os.environ["SAGEMAKER_BIND_TO_PORT"])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    with an_instance(tmp_path) as instance:
        yield instance


def start(instance: Instance, code: str = SERVER, **options: Any) -> None:
    instance.write("code/serve.py", code)
    command = {"style": "command", "argv": [sys.executable, "serve.py"]}
    instance.start(container=command, ping_timeout_s=1, **options)


def server_pid(instance: Instance) -> int:
    lines = [line for line in instance.log().splitlines() if line.startswith("serving as")]
    return int(lines[-1].split()[-1])


def invoke(instance: Instance, body: bytes) -> bytes:
    address = instance.workers()[0]["address"]
    assert address.startswith("http:127.0.0.1:")
    url = f"http://{address.removeprefix('http:')}/invocations"
    with urllib.request.urlopen(url, data=body, timeout=5) as reply:
        return bytes(reply.read())


def test_a_server_is_healthy_when_it_answers_pings_and_is_reached_directly(
    instance: Instance,
) -> None:
    start(instance)
    instance.wait_for_state("healthy")
    assert invoke(instance, b"flower") == b"rewolf"
    keeper = instance.workers()[0]["pid"]
    assert b"clary-worker\0digits/AllTraffic/i-1" in Path(f"/proc/{keeper}/cmdline").read_bytes()
    assert rss_kb(keeper) <= 15 * 1024


def test_killing_the_worker_kills_its_server_and_starts_both_again(instance: Instance) -> None:
    start(instance)
    instance.wait_for_state("healthy")
    server = server_pid(instance)
    os.kill(instance.workers()[0]["pid"], signal.SIGKILL)
    wait_for(lambda: not is_alive(server), "the server to be killed")
    instance.wait_for_restart()
    assert invoke(instance, b"ab") == b"ba"


def test_a_server_that_dies_is_started_again(instance: Instance) -> None:
    start(instance)
    instance.wait_for_state("healthy")
    os.kill(server_pid(instance), signal.SIGKILL)
    instance.wait_for_restart()
    assert invoke(instance, b"ab") == b"ba"
    assert "exit status 137" in instance.log()


def test_a_server_that_fails_its_pings_is_replaced(instance: Instance) -> None:
    start(instance, ping_interval_s=0.05)
    instance.wait_for_state("healthy")
    (instance.code_dir / "sick").touch()
    wait_for(lambda: "failed 3 pings in a row" in instance.log(), "the replacement")
    (instance.code_dir / "sick").unlink()
    instance.wait_for_restart()
    assert instance.wait_for_state("healthy")["reason"] is None


def test_stopping_hands_sigterm_on(instance: Instance) -> None:
    start(instance)
    instance.wait_for_state("healthy")
    server = server_pid(instance)
    instance.stop()
    assert instance.process is not None
    assert instance.process.wait(10) == 0
    assert "told to stop" in instance.log()
    assert not is_alive(server)


def test_a_server_that_ignores_sigterm_ends_with_the_lifeline(instance: Instance) -> None:
    code = SERVER.replace("signal.SIGTERM, leave", "signal.SIGTERM, signal.SIG_IGN")
    start(instance, code, stop_timeout_s=0.5)
    instance.wait_for_state("healthy")
    server = server_pid(instance)
    assert instance.process is not None
    instance.process.kill()
    assert invoke(instance, b"ab") == b"ba"
    instance.cut_lifeline()
    wait_for(lambda: not is_alive(server), "the server to end")


@pytest.mark.parametrize(
    ("argv", "texts"),
    [
        pytest.param(["/nowhere/serve"], ["cannot start /nowhere/serve"], id="missing"),
        pytest.param(
            [sys.executable, "-c", "import flowers"], ["No module named 'flowers'"], id="import"
        ),
        pytest.param([sys.executable, "-c", "pass"], ["exit status 0"], id="leaves"),
    ],
)
def test_a_command_that_ends_fails_with_its_last_words(
    instance: Instance, argv: list[str], texts: list[str]
) -> None:
    instance.start(container={"style": "command", "argv": argv})
    reason = instance.wait_for_state("failed")["reason"]
    for text in texts:
        assert text in reason


def test_a_command_that_never_listens_fails_when_its_time_is_over(instance: Instance) -> None:
    argv = [sys.executable, "-c", "import time; print('thinking', flush=True); time.sleep(60)"]
    instance.start(container={"style": "command", "argv": argv}, startup_timeout_s=1.5)
    reason = instance.wait_for_state("failed")["reason"]
    assert "not ready 1.5 s" in reason
    assert "thinking" in reason
