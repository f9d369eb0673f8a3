"""Workers of a serverless variant: forked from a template, or started as any other."""

import http.client
import json
import os
import signal
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clary.messages import encode_line
from instances import Instance, an_instance, is_alive, wait_for

PID = """
import os, random
{imports}

def model_fn(model_dir):
    return random.random()

def transform_fn(model, data, content_type, accept):
    return '{{"pid": %d, "random": %r}}' % (os.getpid(), model), "application/json"
"""
THREADED = (
    "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
)
CONTAINER = {"scaled": True, "template": True, "memory_limit_mb": 1024}


class Scaled:
    """A host that scales, and what a test asks of it."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    def start(self, imports: str = "", **environment: str) -> None:
        code = PID.format(imports=imports)
        self.instance.start(code, container=CONTAINER, environment=environment)
        self.wait_for(1)

    def scale(self, workers: int, *ending: str) -> None:
        self.instance.status()
        assert self.instance._socket is not None
        request = {"op": "scale", "workers": workers, "end": list(ending)}
        self.instance._socket.sendall(encode_line(request))

    def ready(self) -> list[dict[str, Any]]:
        status = self.instance.status()
        containers = status.get("containers") or [{"workers": []}]
        return [w for w in containers[0]["workers"] if w["state"] == "ready"]

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        wait_for(lambda: len(self.ready()) == count, f"{count} workers", 30)
        return self.ready()

    def to_zero(self) -> None:
        pids = [worker["pid"] for worker in self.ready()]
        self.scale(0, *(worker["address"] for worker in self.ready()))
        self.wait_for(0)
        wait_for(lambda: not any(map(is_alive, pids)), "the workers to end", 30)

    def template(self) -> int | None:
        return next(
            (pid for pid, words in family(self.instance) if "clary-template" in words), None
        )


def family(instance: Instance) -> list[tuple[int, list[str]]]:
    """Return the children of the host with the words of their command lines."""
    assert instance.process is not None
    host = instance.process.pid
    found = []
    for pid in Path(f"/proc/{host}/task/{host}/children").read_text().split():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        found.append((int(pid), words))
    return found


@pytest.fixture
def scaled(tmp_path: Path) -> Iterator[Scaled]:
    with an_instance(tmp_path) as instance:
        yield Scaled(instance)


def wait_for_fork(scaled: Scaled) -> dict[str, Any]:
    """Start workers until one was forked: its command line has as many digits as a template's."""

    def forked() -> dict[str, Any] | None:
        scaled.to_zero()
        scaled.scale(1)
        (worker,) = scaled.wait_for(1)
        words = dict(family(scaled.instance))[worker["pid"]]
        return worker if len(words[-2]) > 1 else None

    wait_for(scaled.template, "a template", 30)
    found: dict[str, Any] = wait_for(forked, "a worker to be forked", 60)
    return found


def test_a_forked_worker_is_a_child_of_the_host_with_a_name_of_its_own(scaled: Scaled) -> None:
    scaled.start()
    worker = wait_for_fork(scaled)

    words = dict(family(scaled.instance))[worker["pid"]]

    assert "clary-worker" in words
    assert "digits/AllTraffic/i-1" in words
    assert words[-1] == ""  # no rest of the longer name
    assert int(words[-2]) == 0
    status, _, body = scaled.instance.client().invoke()
    assert (status, json.loads(body)["pid"]) == (200, worker["pid"])


def test_forked_workers_have_random_numbers_of_their_own(scaled: Scaled) -> None:
    scaled.start()
    wait_for_fork(scaled)
    scaled.scale(3)
    workers = scaled.wait_for(3)

    numbers = set()
    for worker in workers:
        index = int(Path(worker["address"]).stem.removeprefix("w"))
        numbers.add(json.loads(scaled.instance.client(index).invoke()[2])["random"])

    assert len(numbers) == 3


def test_a_forked_worker_that_is_killed_is_noticed(scaled: Scaled) -> None:
    scaled.start()
    worker = wait_for_fork(scaled)

    os.kill(worker["pid"], signal.SIGKILL)

    wait_for(lambda: [w for w in scaled.ready() if w["pid"] != worker["pid"]], "its successor", 30)


def test_libraries_that_start_threads_are_not_forked(scaled: Scaled, tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "threaded.py").write_text(THREADED)
    scaled.start("import threaded", PYTHONPATH=str(packages))

    wait_for(
        lambda: (
            "workers are not forked: its libraries have started 1 threads" in scaled.instance.log()
        ),
        "the template to say so",
        30,
    )
    scaled.to_zero()
    scaled.scale(2)
    for worker in scaled.wait_for(2):
        assert len(dict(family(scaled.instance))[worker["pid"]][-2]) == 1
    assert scaled.template() is None


def test_without_its_template_a_host_starts_workers_itself(scaled: Scaled) -> None:
    scaled.start()
    wait_for_fork(scaled)
    template = scaled.template()
    assert template is not None
    scaled.to_zero()

    os.kill(template, signal.SIGKILL)
    scaled.scale(1)

    (worker,) = scaled.wait_for(1)
    assert is_alive(worker["pid"])


def test_a_template_that_dies_while_it_makes_workers_leaves_none_behind(scaled: Scaled) -> None:
    scaled.start()
    wait_for_fork(scaled)
    template = scaled.template()
    assert template is not None
    os.kill(template, signal.SIGSTOP)
    scaled.scale(3)
    os.kill(template, signal.SIGKILL)

    workers = scaled.wait_for(3)

    def workers_that_live() -> set[int]:
        return {pid for pid, words in family(scaled.instance) if "clary-worker" in words}

    wait_for(
        lambda: workers_that_live() == {worker["pid"] for worker in workers}, "no other worker", 30
    )


def ending_by_stop(scaled: Scaled) -> None:
    scaled.instance.stop()


def ending_by_lifeline(scaled: Scaled) -> None:
    scaled.instance.cut_lifeline()


@pytest.mark.parametrize("end", [ending_by_stop, ending_by_lifeline])
def test_nothing_is_left_of_a_host_that_stops(
    scaled: Scaled, end: Callable[[Scaled], None]
) -> None:
    scaled.start()
    wait_for_fork(scaled)
    pids = [pid for pid, _ in family(scaled.instance)]
    assert len(pids) == 2

    end(scaled)

    wait_for(lambda: not any(map(is_alive, pids)), "all of it to end", 30)


def test_a_template_leaves_with_a_host_that_is_killed(scaled: Scaled) -> None:
    scaled.start()
    wait_for_fork(scaled)
    template = scaled.template()
    assert template is not None
    assert scaled.instance.process is not None

    os.kill(scaled.instance.process.pid, signal.SIGKILL)

    wait_for(lambda: not is_alive(template), "the template to leave", 30)


SERVER = """
import http.server, os, time

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        for _ in range(300):  # in pieces, between which pings are answered
            held.append(bytearray(os.urandom(1 << 20)) * 5)
            time.sleep(0.01)

    def log_message(self, *arguments):
        pass

held = []
port = int(os.environ["SAGEMAKER_BIND_TO_PORT"])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def test_a_server_of_the_users_own_scales_and_has_its_memory_limited(scaled: Scaled) -> None:
    scaled.instance.write("code/serve.py", SERVER)
    command = {**CONTAINER, "style": "command", "argv": [sys.executable, "serve.py"]}
    scaled.instance.start(container=command, ping_timeout_s=1)
    scaled.wait_for(1)
    scaled.to_zero()
    scaled.scale(2)
    first, second = scaled.wait_for(2)
    assert first["address"] != second["address"]
    assert scaled.template() is None

    url = f"http://{first['address'].removeprefix('http:')}/invocations"
    with pytest.raises((OSError, http.client.HTTPException)):
        urllib.request.urlopen(url, data=b"x", timeout=60)

    wait_for(lambda: "MemorySizeInMB" in scaled.instance.log(), "a note in the log", 30)
    wait_for(lambda: not is_alive(first["pid"]), "the keeper to end", 30)
    scaled.wait_for(2)
