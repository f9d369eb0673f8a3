"""An instance of its own for a test: a real host, real workers, and a small client of theirs."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import clary
from clary.messages import (
    BODY,
    CREDIT,
    HELLO,
    INVOKE,
    MAX_BODY_PART,
    MORE,
    PART,
    REPLY,
    Frame,
    FrameDecoder,
    LineDecoder,
    encode_frame,
    encode_meta,
)
from clary.status_page import PageReader, status_path

WORKER_DIR = Path(clary.__file__).parent / "worker"
HOST_MAIN = WORKER_DIR / "host_main.py"

ECHO = """
import json, os

def model_fn(model_dir):
    return os.getpid()

def input_fn(data, content_type):
    return json.loads(data)

def predict_fn(data, model):
    return data

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 20.0) -> Any:
    """Poll until ``condition`` returns something true, and return that."""
    deadline = time.monotonic() + timeout_s
    while True:
        if result := condition():
            return result
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def rss_kb(pid: int) -> int:
    """Resident memory of a process, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has no memory")


class Client:
    """One connection to a worker, blocking."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(15)
        self.socket.connect(path)
        self._decoder = FrameDecoder()
        self._frames: list[Frame] = []
        self._next_id = 0
        self.hello = self.frame()
        assert self.hello.kind == HELLO

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def page(self) -> PageReader:
        """What tells which request of this connection was begun last."""
        path = status_path(self.socket.getpeername())
        return PageReader(path, self.hello.request_id, self.hello.flags)

    def frame(self) -> Frame:
        """The next frame; ConnectionError at the end of the connection."""
        while not self._frames:
            data = self.socket.recv(1 << 20)
            if not data:
                raise ConnectionError("the worker closed the connection")
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0)

    def has_frame(self, within_s: float) -> bool:
        """Whether a frame comes within a time."""
        self.socket.settimeout(within_s)
        try:
            self._frames.insert(0, self.frame())
        except TimeoutError:
            return False
        finally:
            self.socket.settimeout(15)
        return True

    def submit(self, body: bytes | str = b"{}", *, time_left_ms: int = 60_000, **meta: str) -> int:
        """Send an invocation and return its id. Underscores in header names become hyphens."""
        self._next_id += 1
        data = body.encode() if isinstance(body, str) else body
        headers = {name.replace("_", "-"): value for name, value in meta.items()}
        headers.setdefault("content-type", "application/json")
        block = encode_meta(headers)
        if len(data) <= MAX_BODY_PART:
            self.send(
                encode_frame(INVOKE, self._next_id, number=time_left_ms, meta=block, body=data)
            )
            return self._next_id
        self.send(encode_frame(INVOKE, self._next_id, flags=MORE, number=time_left_ms, meta=block))
        for start in range(0, len(data), MAX_BODY_PART):
            part = data[start : start + MAX_BODY_PART]
            more = MORE if start + MAX_BODY_PART < len(data) else 0
            self.send(encode_frame(BODY, self._next_id, flags=more, body=part))
        return self._next_id

    def reply(self) -> tuple[int, int, dict[str, str], bytes]:
        """The next whole reply: request id, status, headers, body. Grants credit as it comes."""
        first = self.frame()
        assert first.kind == REPLY, first
        body = bytearray(first.body)
        more = first.flags & MORE
        while more:
            self.send(encode_frame(CREDIT, first.request_id, number=MAX_BODY_PART))
            part = self.frame()
            assert part.kind == PART
            assert part.request_id == first.request_id
            body += part.body
            more = part.flags & MORE
        headers = json.loads(first.meta) if first.meta else {}
        return first.request_id, first.status, headers, bytes(body)

    def invoke(self, body: bytes | str = b"{}", **meta: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of one invocation."""
        request_id = self.submit(body, time_left_ms=60_000, **meta)
        answered_id, status, headers, reply = self.reply()
        assert answered_id == request_id
        return status, headers, reply

    def close(self) -> None:
        self.socket.close()


class Instance:
    """A host process and what it wrote."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.run_dir = directory / "run"
        self.log_file = directory / "log"
        self.code_dir = directory / "code"
        self.process: subprocess.Popen[bytes] | None = None
        self._lifeline: int | None = None
        self._connections: list[Any] = []
        self._workers: set[int] = set()
        self._lines = LineDecoder()
        self._status: dict[str, Any] = {}
        self._socket: socket.socket | None = None

    def write(self, path: str, text: str) -> None:
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def start(
        self,
        code: str = ECHO,
        *,
        container: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
        **spec: Any,
    ) -> None:
        """Write handler and specification, and start the host. ``spec`` overrides members."""
        self.write("code/inference.py", code)
        (self.directory / "model").mkdir(exist_ok=True)
        primary = {
            "name": "primary",
            "style": "handler",
            "python": sys.executable,
            "argv": [],
            "cwd": str(self.code_dir),
            "environment": {"PATH": os.environ["PATH"], **(environment or {})},
            "model_dir": str(self.directory / "model"),
            "code_dir": str(self.code_dir),
            "program": "inference",
            "workers": 1,
            **(container or {}),
        }
        values = {
            "instance_id": "i-1",
            "endpoint": "digits",
            "variant": "AllTraffic",
            "run_dir": str(self.run_dir),
            "log": str(self.log_file),
            "startup_timeout_s": 20,
            "ping_interval_s": 0.1,
            "ping_timeout_s": 0.2,
            "unhealthy_after": 3,
            "stop_timeout_s": 5,
            "load_attempts": 3,
            "load_attempts_within_s": 10,
            "invocation_timeout_s": 60,
            "hung_grace_s": 5,
            "containers": [primary],
            **spec,
        }
        self.write("spec.json", json.dumps(values))
        read_end, self._lifeline = os.pipe()
        argv = [sys.executable, "-I", "-S", str(HOST_MAIN), "clary-host"]
        argv += ["digits/AllTraffic/i-1", str(self.directory / "spec.json")]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                env={"CLARY_LIFELINE_FD": str(read_end)},
                pass_fds=[read_end],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        os.close(read_end)

    # What the host says ---------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The newest status, without waiting for another."""
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self.run_dir / "host.sock"))
            except OSError:
                connection.close()
                return {}
            connection.setblocking(False)
            self._socket = connection
        with contextlib.suppress(BlockingIOError):
            while data := self._socket.recv(65536):
                for message in self._lines.feed(data):
                    self._status = message
                    self._workers.update(w["pid"] for w in self.workers() if w["pid"])
        return self._status

    def workers(self, container: int = 0) -> list[dict[str, Any]]:
        return list(self._status["containers"][container]["workers"])

    def wait_for_state(self, state: str, timeout_s: float = 15.0) -> dict[str, Any]:
        """Wait until the instance is in a state and return its status."""

        def reached() -> bool:
            return self.status().get("state") == state

        try:
            wait_for(reached, f"state {state}", timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self._status}\n{self.log()}") from None
        return self._status

    def wait_for_restart(self, starts: int = 2, worker: int = 0) -> None:
        """Wait until a worker is ready again after its ``starts``-th start."""

        def again() -> bool:
            self.status()
            entry = self.workers()[worker]
            return bool(entry["starts"] >= starts and entry["state"] == "ready")

        wait_for(again, f"start {starts} of worker {worker}\n{self.log()}")

    def stop(self) -> None:
        """Ask the host to stop."""
        assert self._socket is not None
        self._socket.setblocking(True)
        self._socket.sendall(b'{"op":"stop"}\n')

    def cut_lifeline(self) -> None:
        """What happens when the supervisor dies."""
        assert self._lifeline is not None
        os.close(self._lifeline)
        self._lifeline = None

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def client(self, worker: int = 0) -> Client:
        """A new connection to a worker."""
        client = Client(str(self.run_dir / f"w{worker}.sock"))
        self._connections.append(client)
        return client

    def ready(self, code: str = ECHO, **options: Any) -> Client:
        """Start, wait until healthy, and connect."""
        self.start(code, **options)
        self.wait_for_state("healthy")
        return self.client()

    def close(self) -> None:
        """Kill what is left and remove nothing: the directory is the test's."""
        if self._socket is not None:
            with contextlib.suppress(OSError, KeyError):
                self.status()
            self._socket.close()
        for connection in self._connections:
            connection.close()
        if self._lifeline is not None:
            os.close(self._lifeline)
        if self.process is not None:
            if self.process.poll() is None:
                # The host leads a group of its own, to which its workers belong.
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            for pid in filter(self._is_ours, self._workers):
                os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not any(map(self._is_ours, self._workers)), "the workers to end")

    def _is_ours(self, pid: int) -> bool:
        """Whether a worker lives; its number may be somebody else's by now."""
        try:
            return os.fsencode(self.directory) in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False


@contextlib.contextmanager
def an_instance(directory: Path) -> Iterator[Instance]:
    """An instance that is gone at the end of the block."""
    instance = Instance(directory)
    try:
        yield instance
    finally:
        instance.close()
