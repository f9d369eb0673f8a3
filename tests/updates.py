"""Updates of endpoints, for tests: models that say which they are, and a steady load on them."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from load import Load
from server import IMAGE, ROLE, Server, wait_for

RATE = 200
"""Calls a second."""

WORD = """
def model_fn(model_dir):
    return "{word}"

def transform_fn(model, data, content_type, accept):
    return model, "text/plain"
"""

BROKEN = """
def model_fn(model_dir):
    raise RuntimeError("this model is not well")
"""


def a_model(server: Server, name: str, code: str) -> None:
    server.sagemaker.create_model(
        ModelName=name,
        PrimaryContainer={
            "Image": IMAGE,
            "ModelDataUrl": server.upload({"code/inference.py": code}, name),
        },
        ExecutionRoleArn=ROLE,
    )


def a_config(server: Server, name: str, model: str, count: int = 1, **members: Any) -> str:
    server.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": model,
                "InitialInstanceCount": count,
                "InstanceType": "ml.m5.large",
                "InitialVariantWeight": 1.0,
                **members,
            }
        ],
    )
    return name


def describe(server: Server, name: str) -> dict[str, Any]:
    found: dict[str, Any] = server.sagemaker.describe_endpoint(EndpointName=name)
    return found


@contextmanager
def an_endpoint_under_load(server: Server, name: str, count: int = 1) -> Iterator[Load]:
    """An endpoint of the old model, called all the time. At the end no call has failed."""
    a_config(server, f"{name}-old", "old", count)
    with a_load_on(server, name, f"{name}-old") as load:
        yield load


@contextmanager
def a_load_on(server: Server, name: str, config: str) -> Iterator[Load]:
    """An endpoint of this configuration, called all the time. At the end no call has failed."""
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    server.wait_for_status(name, "InService")
    with Load(server.port, name, rate=RATE) as load:
        wait_for(lambda: load.good_since(0) > 20, what="the load to run")
        yield load
        moment = time.monotonic()
        wait_for(lambda: load.good_since(moment) > 20, what="the load to go on")
    assert load.failures == [], load.failures
    server.sagemaker.delete_endpoint(EndpointName=name)


def answers_since(load: Load, moment: float) -> set[bytes]:
    return {outcome.body for outcome in list(load.outcomes) if outcome.started > moment}


def update(server: Server, name: str, config: str, **members: Any) -> None:
    server.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config, **members)


def blue_green(kind: str, wait_s: int = 0, last_wait_s: int = 0, **size: Any) -> Mapping[str, Any]:
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {
                "Type": kind,
                "WaitIntervalInSeconds": wait_s,
                **size,
            },
            "TerminationWaitInSeconds": last_wait_s,
        }
    }


LONG = {
    "canary": blue_green("CANARY", 600, 0, CanarySize={"Type": "CAPACITY_PERCENT", "Value": 30}),
    "rolling": {
        "RollingUpdatePolicy": {
            "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 50},
            "WaitIntervalInSeconds": 600,
        }
    },
}
"""Bakes that do not end within a test."""


def variant_status(server: Server, name: str) -> str:
    """What the new fleet's variant is busy with; nothing when there is no update."""
    pending = describe(server, name).get("PendingDeploymentSummary")
    status = pending["ProductionVariants"][0].get("VariantStatus") if pending else None
    return status[0]["StatusMessage"] if status else ""


def kill_control(server: Server) -> None:
    """``kill -9`` control, and wait for the next one's API: on a busy machine calls are not held
    for so long."""

    def answers() -> bool:
        try:
            server.sagemaker.list_endpoints()
        except ClientError as error:
            if error.response["Error"]["Code"] == "ServiceUnavailable":
                return False
            raise
        return True

    pid = server.pids("clary-control")[0]
    os.kill(pid, signal.SIGKILL)
    wait_for(
        lambda: server.pids("clary-control") not in ([], [pid]), timeout_s=20, what="a new control"
    )
    wait_for(answers, timeout_s=30, what="the new control's API")
