"""Everything that is measured side by side: Clary, FastAPI under uvicorn, nginx before a server."""

import contextlib
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import HERE, MODELS, PEERS
from benchmarks.load import Request
from benchmarks.processes import Peer
from clary.settings import run_dir
from clary.signing.keys import AccessKey, KeyFile
from clary.signing.sign import sign
from server import Server, free_port, wait_for

PEER_PYTHON = PEERS / "fastapi" / "bin" / "python"

ONE_WORKER = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}

NGINX_CONF = """
worker_processes 1;
daemon off;
{user}
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_max_body_size 0;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  keepalive_requests 1000000000;
  upstream behind {{
    server {upstream};
    keepalive 512;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://behind;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      {options}
    }}
  }}
}}
"""


def files_of(model: str) -> dict[str, bytes]:
    """Return the members of a model's archive by path."""
    root = MODELS / model
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def invocation(server: Server, endpoint: str, body: bytes, content_type: str) -> Request:
    """Return an unsigned invocation."""
    url = f"{server.url}/endpoints/{endpoint}/invocations"
    return Request(url, body, {"content-type": content_type})


def response_stream(server: Server, endpoint: str, body: bytes, content_type: str) -> Request:
    """Return an unsigned InvokeEndpointWithResponseStream."""
    url = f"{server.url}/endpoints/{endpoint}/invocations-response-stream"
    return Request(url, body, {"content-type": content_type})


def signed(request: Request, key: AccessKey) -> Request:
    """Return the request with a signature that is good for the next fifteen minutes."""
    headers = sign(
        "POST",
        request.url,
        request.headers,
        request.body,
        key,
        region="us-east-1",
        service="sagemaker",
        now=datetime.now(UTC),
    )
    del headers["host"]  # wrk sends the same one itself
    return Request(request.url, request.body, headers)


@contextlib.contextmanager
def clary(directory: Path, **environment: str) -> Iterator[Server]:
    """A server without authentication, with settings as environment variables."""
    with Server(directory, **environment) as server:
        yield server


@contextlib.contextmanager
def clary_with_keys(directory: Path) -> Iterator[tuple[Server, AccessKey]]:
    """A server that verifies every signature."""
    key = KeyFile(directory / "data" / "keys.json").create()
    with Server(directory, access_key=key.id, secret_key=key.secret, CLARY_AUTH="on") as server:
        yield server, key


def worker_socket(server: Server, endpoint: str) -> Path:
    """Return the socket of the first worker of an endpoint with one instance."""
    (pid,) = server.pids("clary-host", f" {endpoint}/")
    instance = server.processes()[pid].split(f" {endpoint}/")[1].split()[0].rpartition("/")[2]
    return run_dir(server.data_dir) / "i" / instance / "w0.sock"


@contextlib.contextmanager
def fastapi(directory: Path, style: str, model: str, model_dir: Path) -> Iterator[str]:
    """The model's functions behind FastAPI, one process of uvicorn; gives the URL.

    Args:
        directory: For the log.
        style: Attribute of ``servers/fastapi_server.py``.
        model: Directory of the functions below ``models/``.
        model_dir: What ``model_fn`` is given.
    """
    port = free_port()
    argv = [
        str(PEER_PYTHON),
        *("-m", "uvicorn", f"fastapi_server:{style}"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--loop", "uvloop", "--http", "httptools"),
        *("--no-access-log", "--log-level", "warning"),
    ]
    with Peer(argv, directory / f"{style}.log", **_model_environment(model, model_dir)) as peer:
        wait_for(lambda: peer.is_alive and _accepts(("127.0.0.1", port)), timeout_s=30, what=style)
        yield f"http://127.0.0.1:{port}/invocations"


@contextlib.contextmanager
def bare_server(directory: Path, scheme: str, model: str, model_dir: Path) -> Iterator[str]:
    """The least server around the model's functions; gives nginx's name for it."""
    if scheme == "unix":
        place: str | tuple[str, int] = str(directory / "bare.sock")
        address = f"unix:{place}"
        upstream = address
    else:
        place = ("127.0.0.1", free_port())
        address = f"tcp:{place[1]}"
        upstream = f"127.0.0.1:{place[1]}"
    argv = [str(PEER_PYTHON), str(HERE / "servers" / "bare.py"), address]
    log = directory / f"bare-{scheme}.log"
    with Peer(argv, log, **_model_environment(model, model_dir)) as peer:
        wait_for(lambda: peer.is_alive and _accepts(place), timeout_s=30, what=f"bare {scheme}")
        yield upstream


@contextlib.contextmanager
def nginx(directory: Path, upstream: str, options: str = "") -> Iterator[tuple[str, Peer]]:
    """nginx with one worker process as a proxy; gives the URL and the process."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    conf = directory / "nginx.conf"
    user = "user root;" if os.getuid() == 0 else ""
    conf.write_text(
        NGINX_CONF.format(
            directory=directory, user=user, upstream=upstream, port=port, options=options
        )
    )
    argv = ["nginx", "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(conf)]
    with Peer(argv, directory / "nginx.log") as peer:
        wait_for(
            lambda: peer.is_alive and _accepts(("127.0.0.1", port)), timeout_s=10, what="nginx"
        )
        yield f"http://127.0.0.1:{port}/invocations", peer


def _model_environment(model: str, model_dir: Path) -> dict[str, str]:
    paths = (MODELS / model / "code", HERE / "servers")
    return {"PYTHONPATH": os.pathsep.join(map(str, paths)), "MODEL_DIR": str(model_dir)}


def _accepts(place: str | tuple[str, int]) -> bool:
    family = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET
    with socket.socket(family) as probe:
        return probe.connect_ex(place) == 0
