"""Updates of endpoints under a steady load: no call is lost, whatever becomes of the update."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("updates"), CLARY_FLEET_MAX_WORKERS="1") as running:
        for word in ("old", "new"):
            a_model(running, word, WORD.format(word=word))
        a_model(running, "broken", BROKEN)
        yield running


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
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=f"{name}-old")
    server.wait_for_status(name, "InService")
    with Load(server.port, name, rate=RATE) as load:
        wait_for(lambda: load.good_since(0) > 20, what="the load to run")
        yield load
        moment = time.monotonic()
        wait_for(lambda: load.good_since(moment) > 20, what="the load to go on")
    assert load.failures == []
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


def test_without_a_policy_everything_moves_at_once(server: Server) -> None:
    with an_endpoint_under_load(server, "plain") as load:
        update(server, "plain", a_config(server, "plain-new", "new"))
        found = describe(server, "plain")
        assert found["EndpointStatus"] == "Updating"
        assert found["EndpointConfigName"] == "plain-old"
        assert found["PendingDeploymentSummary"]["EndpointConfigName"] == "plain-new"
        found = server.wait_for_status("plain", "InService")
        assert found["EndpointConfigName"] == "plain-new"
        assert "PendingDeploymentSummary" not in found
        moment = time.monotonic()
        wait_for(lambda: load.good_since(moment) > 20, what="calls after the update")
        assert answers_since(load, moment) == {b"new"}
        wait_for(lambda: len(server.pids("clary-host", "plain/")) == 1, what="the old to stop")


def test_a_model_that_does_not_load_leaves_the_old_one_serving(server: Server) -> None:
    with an_endpoint_under_load(server, "unwell") as load:
        update(server, "unwell", a_config(server, "unwell-new", "broken"))
        found = server.wait_for_status("unwell", "InService")
        assert found["EndpointConfigName"] == "unwell-old"
        assert "this model is not well" in found["FailureReason"]
        assert {o.body for o in load.outcomes} == {b"old"}
        wait_for(lambda: len(server.pids("clary-host", "unwell/")) == 1, what="the new to stop")
