"""Asynchronous endpoints for tests, and how their results are waited for."""

import json
import urllib.request
from typing import Any
from urllib.parse import quote

from botocore.exceptions import ClientError

from server import Server, wait_for
from variants import a_variant_of

ECHO = """
import time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    text = data[:40].decode("latin-1") if isinstance(data, bytes) else data
    if text.startswith("fail"):
        raise ValueError("as you wish")
    if text.startswith("sleep "):
        time.sleep(float(text.split()[1]))
    return data, accept or content_type
"""


def deploy_async(
    server: Server,
    name: str,
    code: str = ECHO,
    *,
    topics: dict[str, Any] | None = None,
    max_concurrent: int | None = None,
    failure_path: bool = True,
    variant: dict[str, Any] | None = None,
    wait: bool = True,
) -> None:
    """An endpoint whose outputs go to ``s3://results/<name>/out``."""
    output: dict[str, Any] = {"S3OutputPath": f"s3://results/{name}/out"}
    if failure_path:
        output["S3FailurePath"] = f"s3://results/{name}/failures"
    if topics is not None:
        output["NotificationConfig"] = topics
    config: dict[str, Any] = {"OutputConfig": output}
    if max_concurrent is not None:
        config["ClientConfig"] = {"MaxConcurrentInvocationsPerInstance": max_concurrent}
    server.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[{**a_variant_of(server, name, code), **(variant or {})}],
        AsyncInferenceConfig=config,
    )
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    if wait:
        server.wait_for_status(name, "InService")


def scale(server: Server, name: str, count: int) -> None:
    """Want another number of instances of ``deploy_async``'s variant, and wait for them."""
    server.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[{"VariantName": name, "DesiredInstanceCount": count}],
    )
    server.wait_for_status(name, "InService")


def put_input(server: Server, key: str, body: bytes) -> str:
    server.s3.put_object(Bucket="inputs", Key=key, Body=body)
    return f"s3://inputs/{key}"


def read_object(server: Server, location: str) -> Any:
    """The object at a URL with its head, or None."""
    bucket, _, key = location.removeprefix("s3://").partition("/")
    try:
        server.s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] != "404":
            raise
        return None
    found = server.s3.get_object(Bucket=bucket, Key=key)
    return {**found, "Body": found["Body"].read()}


def wait_for_object(server: Server, location: str, timeout_s: float = 20) -> Any:
    return wait_for(
        lambda: read_object(server, location), timeout_s=timeout_s, what=f"{location} to be there"
    )


def wait_for_end(server: Server, endpoint: str, inference_id: str) -> dict[str, Any]:
    """What the server says of an invocation that has ended."""

    def ended() -> dict[str, Any] | None:
        found = info(server, endpoint, inference_id)
        return found if found["state"] in ("done", "failed") else None

    found: dict[str, Any] = wait_for(ended, timeout_s=60, what=f"{inference_id} to end")
    return found


def info(server: Server, endpoint: str, inference_id: str) -> dict[str, Any]:
    """What the server says of an invocation."""
    url = f"{server.url}/_clary/async/{endpoint}/{quote(inference_id)}"
    with urllib.request.urlopen(url, timeout=5) as reply:
        found: dict[str, Any] = json.load(reply)
    return found
