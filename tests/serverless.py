"""Serverless endpoints for tests, and how many workers they have."""

import json
from collections.abc import Mapping
from typing import Any

from server import IMAGE, ROLE, Contents, Server, wait_for

CODE = """
import json
import os
import signal
import time

def model_fn(model_dir):
    return {}

def transform_fn(model, data, content_type, accept):
    text = data if isinstance(data, str) else data.decode()
    word, _, rest = text.partition(" ")
    if word == "sleep":
        time.sleep(float(rest))
    elif word == "hold":
        open(rest + ".begun", "w").close()
        while not os.path.exists(rest + ".over"):
            time.sleep(0.01)
    elif word in ("take", "grab"):
        if word == "grab":
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        model["held"] = bytearray(os.urandom(1024 * 1024)) * int(rest)
        for _ in range(100):
            time.sleep(0.1)
    elif word == "title":
        with open("/proc/self/cmdline", "rb") as file:
            return file.read().replace(bytes(1), b" ").strip().decode(), "text/plain"
    return json.dumps({"pid": os.getpid(), "said": text}), "application/json"
"""


def a_serverless_variant(
    server: Server, name: str, code: str | Mapping[str, Contents] = CODE, **serverless: int
) -> dict[str, Any]:
    """Create a model of this handler, or of these files; return a serverless variant of it."""
    files = {"code/inference.py": code} if isinstance(code, str) else code
    server.sagemaker.create_model(
        ModelName=f"model-{name}",
        PrimaryContainer={"Image": IMAGE, "ModelDataUrl": server.upload(files, f"model-{name}")},
        ExecutionRoleArn=ROLE,
    )
    return {
        "VariantName": "AllTraffic",
        "ModelName": f"model-{name}",
        "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 5, **serverless},
    }


def deploy_serverless(
    server: Server,
    name: str,
    code: str | Mapping[str, Contents] = CODE,
    *,
    wait: str = "InService",
    **serverless: int,
) -> dict[str, Any]:
    """Create a serverless endpoint of one variant; return its description."""
    server.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[a_serverless_variant(server, name, code, **serverless)],
    )
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    return server.wait_for_status(name, wait)


def call(server: Server, name: str, text: str = "hello", client: Any = None) -> dict[str, Any]:
    """Invoke; return the decoded answer."""
    reply = (client or server.runtime).invoke_endpoint(
        EndpointName=name, Body=text.encode(), ContentType="text/plain", Accept="application/json"
    )
    answer: dict[str, Any] = json.loads(reply["Body"].read())
    return answer


def workers(server: Server, name: str) -> list[int]:
    """Return the pids of an endpoint's workers."""
    return server.pids("clary-worker", f"{name}/")


def wait_for_workers(server: Server, name: str, count: int) -> None:
    """Wait until an endpoint has so many workers."""
    wait_for(
        lambda: len(workers(server, name)) == count, what=f"{count} workers of {name}", timeout_s=60
    )


def wait_for_template(server: Server, name: str) -> None:
    """Wait until workers of an endpoint are forked."""
    wait_for(
        lambda: server.pids("clary-template", f"{name}/"),
        what=f"the template of {name}",
        timeout_s=60,
    )
