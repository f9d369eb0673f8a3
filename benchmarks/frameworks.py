"""Serving frameworks that Clary is compared with, each in a virtual environment of its own.

``python -m benchmarks.frameworks`` (``make bench-peers``) installs them; ``start`` runs one of them
around the functions of a model in ``models/``, in as many processes as it takes to have one worker.
"""

import contextlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import HERE, MODELS, PEERS, tools
from benchmarks.load import Request
from benchmarks.processes import Peer
from server import free_port, wait_for

SERVERS = HERE / "servers"
MODEL_PACKAGES = ("scikit-learn", "numpy", "joblib")
START_S = 90.0


@dataclass(frozen=True, slots=True)
class Started:
    """A framework's process to be."""

    argv: list[str]
    url: str
    ready_url: str
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Framework:
    """How one of them is installed, started and asked."""

    name: str
    requirements: tuple[str, ...]
    launch: Callable[[str, Path, Path], Started]
    """Of a model's name, the directory of its model, and one for files of its own."""

    @property
    def directory(self) -> Path:
        return PEERS / self.name.lower()

    @property
    def version(self) -> str:
        """What is installed; empty when it is not."""
        python = self.directory / "bin" / "python"
        code = f"import importlib.metadata as m; print(m.version({self.name.lower()!r}))"
        if not (self.directory / "installed.txt").exists():
            return ""
        return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()


def request_body(framework: str, model: str, rows: list[list[float]]) -> bytes:
    """Return what a framework is sent, in the form that it asks for.

    Args:
        framework: Its name.
        model: ``echo``, ``digits`` or ``slow``.
        rows: Input of the last two.
    """
    if model == "echo":
        text = "x" * 188
        if framework == "MLServer":
            return _v2(shape=[1], datatype="BYTES", data=[text])
        return json.dumps({"data": text}).encode()
    if framework == "MLServer":
        flat = [value for row in rows for value in row]
        return _v2(shape=[len(rows), len(rows[0])], datatype="FP64", data=flat)
    if framework == "TorchServe" and model == "slow":
        return json.dumps(rows).encode()
    return json.dumps({"instances": rows}).encode()


def _v2(**tensor: Any) -> bytes:
    return json.dumps({"inputs": [{"name": "data", **tensor}]}).encode()


@contextlib.contextmanager
def start(
    framework: Framework, model: str, model_dir: Path, directory: Path, rows: list[list[float]]
) -> Iterator[Request]:
    """Run a framework around a model; gives what to send it.

    Args:
        framework: One of ``FRAMEWORKS``, installed.
        model: ``echo``, ``digits`` or ``slow``.
        model_dir: What ``model_fn`` is given.
        directory: For its files and its log.
        rows: Input of the model.
    """
    directory.mkdir(parents=True)
    started = framework.launch(model, model_dir, directory)
    paths = (MODELS / model / "code", SERVERS, directory)
    environment = {
        "PATH": f"{framework.directory / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "MODEL_DIR": str(model_dir),
        **started.environment,
    }
    request = Request(started.url, request_body(framework.name, model, rows))
    with Peer(started.argv, directory / "server.log", **environment) as peer:
        wait_for(
            lambda: peer.is_alive and _answers(started.ready_url, request),
            timeout_s=START_S,
            what=f"{framework.name} with {model}",
        )
        yield request


def _answers(ready_url: str, request: Request) -> bool:
    """Whether the server is up and the model answers as it should, with 200."""
    call = urllib.request.Request(request.url, request.body, dict(request.headers))
    try:
        with urllib.request.urlopen(ready_url, timeout=5):
            pass
        with urllib.request.urlopen(call, timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _litserve(model: str, _model_dir: Path, _directory: Path) -> Started:
    port = free_port()
    style = "batched" if model == "slow" else "plain"
    return Started(
        argv=["python", str(SERVERS / "litserve_server.py"), str(port), style],
        url=f"http://127.0.0.1:{port}/invocations",
        ready_url=f"http://127.0.0.1:{port}/health",
        environment={},
    )


def _bentoml(model: str, _model_dir: Path, directory: Path) -> Started:
    port = free_port()
    service = f"bentoml_service:{model.capitalize()}"
    return Started(
        argv=["bentoml", "serve", service, "--host", "127.0.0.1", "--port", str(port)],
        url=f"http://127.0.0.1:{port}/invocations",
        ready_url=f"http://127.0.0.1:{port}/readyz",
        environment={"BENTOML_HOME": str(directory), "BENTOML_DO_NOT_TRACK": "True"},
    )


def _mlserver(model: str, _model_dir: Path, directory: Path) -> Started:
    port = free_port()
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": 0,
        "debug": False,
    }
    (directory / "settings.json").write_text(json.dumps(settings))
    batching = {"max_batch_size": 32, "max_batch_time": 0.005} if model == "slow" else {}
    implementation = f"mlserver_runtime.{model.capitalize()}"
    described = {"name": model, "implementation": implementation, **batching}
    (directory / "model-settings.json").write_text(json.dumps(described))
    return Started(
        argv=["mlserver", "start", str(directory)],
        url=f"http://127.0.0.1:{port}/v2/models/{model}/infer",
        ready_url=f"http://127.0.0.1:{port}/v2/health/ready",
        environment={},
    )


def _torchserve(model: str, model_dir: Path, directory: Path) -> Started:
    port, management = free_port(), free_port()
    files = [MODELS / model / "code" / "inference.py", *sorted(model_dir.glob("*.joblib"))]
    archive = [
        *(str(PEERS / "torchserve" / "bin" / "torch-model-archiver"), "--model-name", model),
        *("--version", "1.0", "--handler", str(SERVERS / "torchserve_handler.py")),
        *("--extra-files", ",".join(map(str, files)), "--export-path", str(directory)),
    ]
    subprocess.run(archive, check=True, capture_output=True)
    batching = {"batchSize": 32, "maxBatchDelay": 5} if model == "slow" else {"batchSize": 1}
    served = {
        **{"defaultVersion": True, "marName": f"{model}.mar", "responseTimeout": 60},
        **{"minWorkers": 1, "maxWorkers": 1, **batching},
    }
    lines = [
        f"inference_address=http://127.0.0.1:{port}",
        f"management_address=http://127.0.0.1:{management}",
        f"metrics_address=http://127.0.0.1:{free_port()}",
        f"grpc_inference_port={free_port()}",
        f"grpc_management_port={free_port()}",
        f"load_models={model}.mar",
        f"models={json.dumps({model: {'1.0': served}})}",
        "disable_system_metrics=true",
    ]
    (directory / "config.properties").write_text("\n".join(lines))
    return Started(
        argv=[
            *("torchserve", "--start", "--foreground", "--ncs", "--disable-token-auth"),
            *("--ts-config", str(directory / "config.properties")),
            *("--model-store", str(directory)),
        ],
        url=f"http://127.0.0.1:{port}/predictions/{model}",
        ready_url=f"http://127.0.0.1:{port}/ping",
        environment={"LOG_LOCATION": str(directory), "METRICS_LOCATION": str(directory)},
    )


FRAMEWORKS = (
    Framework("LitServe", ("litserve", *MODEL_PACKAGES), _litserve),
    Framework("BentoML", ("bentoml", *MODEL_PACKAGES), _bentoml),
    Framework("MLServer", ("mlserver", "uvloop<0.22", *MODEL_PACKAGES), _mlserver),
    Framework(
        "TorchServe",
        ("torchserve", "torch-model-archiver", "torch==2.13.0", "pyyaml", *MODEL_PACKAGES),
        _torchserve,
    ),
)


def versions() -> dict[str, str]:
    """Return the version of each framework that is installed, by name."""
    return {each.name: each.version for each in FRAMEWORKS if each.version}


def main() -> int:
    for framework in FRAMEWORKS:
        try:
            tools.make_environment(framework.name.lower(), list(framework.requirements))
        except tools.Missing as error:
            print(error, file=sys.stderr)
    print(", ".join(f"{name} {version}" for name, version in versions().items()) or "none")
    return 0 if len(versions()) == len(FRAMEWORKS) else 1


if __name__ == "__main__":
    sys.exit(main())
