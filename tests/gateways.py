"""A gateway's front door on a thread of the test, with real worker processes behind it."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import uvloop

import clary
from clary.gateway.front import FrontDoor
from clary.gateway.guard import Guard
from clary.metrics.registry import Registry
from clary.resources.routing_table import (
    ContainerRoute,
    EndpointRoute,
    InstanceRoute,
    VariantRoute,
)
from clary.router.router import Router
from clary.settings import Settings, run_dir

WORKER_MAIN = Path(clary.__file__).parent / "worker" / "main.py"

HANDLER = """
import asyncio, os, time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    if content_type == "test/sleep":
        time.sleep(float(data))
    elif content_type == "test/kill":
        os.kill(os.getpid(), 9)
    elif content_type == "test/raise":
        raise ValueError(data.decode())
    elif content_type == "test/large":
        return b"x" * int(data), "application/octet-stream"
    return data, content_type or "none/given"
"""

ASYNC_HANDLER = """
import asyncio

def model_fn(model_dir):
    return None

async def transform_fn(model, data, content_type, accept):
    if content_type == "test/sleep":
        await asyncio.sleep(float(data))
    return data, content_type
"""


def wait_for(condition, what, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"waited {timeout_s} s for {what}")


def in_background(action):
    """Run an action on a thread; return a function that waits for its result."""
    result = []
    thread = threading.Thread(target=lambda: result.append(action()))
    thread.start()

    def wait(timeout_s=15.0):
        thread.join(timeout_s)
        assert result, "no answer in time"
        return result[0]

    return wait


class WorkerProcess:
    """One real worker, without its host."""

    def __init__(self, directory, code=HANDLER, endpoint="echo"):
        self.directory = directory
        self.endpoint = endpoint
        code_dir, model_dir = directory / "code", directory / "model"
        run = run_dir(directory / "instance")
        for path in (code_dir, model_dir, run):
            path.mkdir(parents=True, exist_ok=True)
        (code_dir / "inference.py").write_text(code)
        self.socket = run / "w0.sock"
        self.log = directory / "log"
        spec = {
            "instance_id": "i-1",
            "endpoint": endpoint,
            "variant": "AllTraffic",
            "run_dir": str(run),
            "log": str(self.log),
            "startup_timeout_s": 30,
            "ping_interval_s": 5,
            "ping_timeout_s": 2,
            "unhealthy_after": 3,
            "stop_timeout_s": 5,
            "load_attempts": 3,
            "load_attempts_within_s": 10,
            "invocation_timeout_s": 60,
            "hung_grace_s": 5,
            "containers": [
                {
                    "name": "primary",
                    "style": "handler",
                    "python": sys.executable,
                    "argv": [],
                    "cwd": str(code_dir),
                    "environment": {"PATH": os.environ["PATH"]},
                    "model_dir": str(model_dir),
                    "code_dir": str(code_dir),
                    "program": "inference",
                    "workers": 1,
                }
            ],
        }
        self.spec = directory / "spec.json"
        self.spec.write_text(json.dumps(spec))
        self.process = None
        self.start()

    @property
    def address(self):
        return f"unix:{self.socket}"

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    str(WORKER_MAIN),
                    "clary-worker",
                    f"{self.endpoint}/AllTraffic/i-1",
                    str(self.spec),
                    "0",
                    "0",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_for(self._answers, f"the worker: {self.log.read_text()}")

    def _answers(self):
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.socket))
            except OSError:
                return False
            return True

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.kill()


class Gateway:
    """A front door on an event loop of its own."""

    def __init__(self, settings, *, keys=None):
        self.settings = settings
        self.loop = uvloop.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.guard = Guard(auth_is_on=keys is not None, allowed_hosts=())
        if keys:
            self.guard.use_keys(keys)
        self.registry = Registry()
        self.call(self._start())

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    async def _start(self):
        self.router = Router(self.settings.router, self.registry)
        self.front = FrontDoor(
            self.settings, self.router, self.guard, {}, life="test", on_demand={}
        )
        self.router.start()
        self.front.start()
        self.router.apply_snapshot([])
        self.front.is_ready = True
        self.server = await self.loop.create_server(self.front.connect, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    def route(self, name, *addresses, weight=1.0):
        """Publish an endpoint with one instance for each address (or tuple of addresses)."""
        groups = [a if isinstance(a, tuple) else (a,) for a in addresses]
        route = EndpointRoute(
            name=name,
            variants=(
                VariantRoute(
                    name="AllTraffic",
                    weight=weight,
                    instances=tuple(
                        InstanceRoute(
                            id=f"i-{i}",
                            containers=(ContainerRoute(name="primary", workers=group),),
                        )
                        for i, group in enumerate(groups)
                    ),
                ),
            ),
        )
        self.publish(name, route)

    def publish(self, name, route):
        async def apply():
            self.router.apply_route(name, route)

        self.call(apply())

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=15)
        return Client(connection, self.port)

    def close(self):
        async def stop():
            self.server.close()
            await self.front.drain(0.1)
            self.router.close()
            await asyncio.sleep(0.05)

        self.call(stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


class Client:
    """A raw connection that sends what a test says and reads responses."""

    def __init__(self, connection, port):
        self.connection = connection
        self.port = port
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def send(self, data):
        self.connection.sendall(data)

    def post(self, path, body=b"", headers=(), *, length=True):
        lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if length:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    def invoke(self, endpoint, body=b"", content_type="application/octet-stream", headers=()):
        self.post(
            f"/endpoints/{endpoint}/invocations", body, [("Content-Type", content_type), *headers]
        )
        return self.read()

    def _fill(self):
        data = self.connection.recv(1 << 20)
        if not data:
            raise EOFError
        self.buffer += data

    def stream(self, endpoint, body=b"", content_type="x/y", headers=()):
        """Ask for a response stream, without reading it."""
        path = f"/endpoints/{endpoint}/invocations-response-stream"
        self.post(path, body, [("Content-Type", content_type), *headers])

    def read_head(self):
        """Return (status, headers) of the next response."""
        while b"\r\n\r\n" not in self.buffer:
            self._fill()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        return int(status_line.split()[1]), headers

    def read(self):
        """Return (status, headers, body) of the next response."""
        status, headers = self.read_head()
        if status == 100:
            return status, headers, b""
        if headers.get("transfer-encoding") == "chunked":
            return status, headers, b"".join(iter(self.read_chunk, b""))
        length = int(headers["content-length"])
        while len(self.buffer) < length:
            self._fill()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return status, headers, body

    def read_chunk(self):
        """Return the next chunk of a body; the last one is empty."""
        while b"\r\n" not in self.buffer:
            self._fill()
        size, _, self.buffer = self.buffer.partition(b"\r\n")
        length = int(size, 16)
        while len(self.buffer) < length + 2:
            self._fill()
        chunk, self.buffer = self.buffer[:length], self.buffer[length + 2 :]
        return chunk

    def read_to_end(self):
        """Return all bytes until the server closes the connection."""
        while True:
            try:
                self._fill()
            except EOFError:
                data, self.buffer = self.buffer, b""
                return data

    def is_closed(self, timeout_s=10.0):
        """Whether the server closes the connection; what it said before that is passed over."""
        self.connection.settimeout(timeout_s)
        try:
            while self.connection.recv(1 << 20):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True


def make_settings(**sections):
    settings = Settings()
    for name, values in sections.items():
        settings = replace(settings, **{name: replace(getattr(settings, name), **values)})
    return settings
