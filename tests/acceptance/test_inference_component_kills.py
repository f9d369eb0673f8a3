"""``kill -9`` while components are scaled and updated: what was wanted comes, and nothing else."""

import contextlib
import os
import random
import signal
import threading

import pytest
from botocore.exceptions import ClientError

from components import ComponentEndpoint, spec
from server import Server, wait_for

ONE_WORKER = {"CLARY_FLEET_MAX_WORKERS": "1"}


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path, **ONE_WORKER) as running:
        yield running


def kill_control(server):
    killed = server.pids("clary-control")[0]
    os.kill(killed, signal.SIGKILL)
    wait_for(
        lambda: [pid for pid in server.pids("clary-control") if pid != killed],
        timeout_s=30,
        what="the next control",
    )

    def answers():
        try:
            return server.sagemaker.list_inference_components()
        except ClientError:  # held for 5 s, then refused
            return None

    wait_for(answers, timeout_s=60, what="the next control's API")


def copies_of(server, component):
    return server.pids("clary-worker", f"/{component}/")


def test_control_killed_while_a_component_is_scaled(server):
    endpoint = ComponentEndpoint(server, "scaled").create(bounds=(1, 4))
    endpoint.model("scaled-model")
    endpoint.component("scaled-ic", "scaled-model", cores=1)
    lost, ended = [], threading.Event()

    def call():
        while not ended.is_set():
            try:
                endpoint.invoke("scaled-ic")
            except ClientError as error:
                lost.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    chance = random.Random(3)
    try:
        for count in (5, 2, 6):
            with contextlib.suppress(ClientError):  # the one before it may be under way
                endpoint.scale("scaled-ic", count, wait=False)
            ended.wait(chance.uniform(0, 0.4))  # at any moment of it
            kill_control(server)
            endpoint.wait_for("scaled-ic")
            endpoint.scale("scaled-ic", count)
            wait_for(
                lambda count=count: len(copies_of(server, "scaled-ic")) == count,
                timeout_s=60,
                what=f"{count} copies, and no more",
            )
            assert endpoint.copies("scaled-ic") == count
    finally:
        ended.set()
        caller.join()
    assert lost == []  # warm invocations need no control
    assert endpoint.instances() == 3
    endpoint.delete("scaled-ic")
    wait_for(lambda: endpoint.instances() == 1, timeout_s=30, what="instances to go")
    assert copies_of(server, "scaled-ic") == []


def test_control_killed_in_the_middle_of_an_update(server):
    endpoint = ComponentEndpoint(server, "updated").create(instances=2)
    for name in ("one", "two"):
        endpoint.model(name)
    endpoint.component("updated-ic", "one", copies=3, cores=0.5)
    server.sagemaker.update_inference_component(
        InferenceComponentName="updated-ic",
        Specification=spec("two", cores=0.5),
        DeploymentConfig={
            "RollingUpdatePolicy": {
                "MaximumBatchSize": {"Type": "COPY_COUNT", "Value": 1},
                "WaitIntervalInSeconds": 1,
            }
        },
    )
    for _ in range(3):
        kill_control(server)
    endpoint.wait_for("updated-ic")
    assert {endpoint.invoke("updated-ic")["model"] for _ in range(12)} == {"two"}
    wait_for(
        lambda: len(copies_of(server, "updated-ic")) == 3, timeout_s=60, what="3 copies, no more"
    )


def test_copies_and_adapters_come_back_after_everything_was_killed(server):
    endpoint = ComponentEndpoint(server, "all").create(bounds=(0, 3))
    endpoint.model("all-model")
    endpoint.component("all-ic", "all-model", copies=2, cores=2)
    endpoint.component("none-ic", "all-model", copies=0)
    url = server.upload({"weights.txt": "1"}, "all-adapter")
    server.sagemaker.create_inference_component(
        InferenceComponentName="all-adapter",
        EndpointName="all",
        Specification={
            "BaseInferenceComponentName": "all-ic",
            "Container": {"ArtifactUrl": url},
        },
    )
    endpoint.wait_for("all-adapter")
    before = {endpoint.invoke("all-ic")["pid"] for _ in range(4)}
    server.kill()
    server.start()
    # At once: it waits for a copy that was there before.
    assert endpoint.invoke("all-ic")["pid"] not in before
    with pytest.raises(ClientError, match="no capacity"):
        endpoint.invoke("none-ic")
    wait_for(lambda: endpoint.copies("all-ic") == 2, timeout_s=60, what="both copies")
    wait_for(lambda: endpoint.copies("all-adapter") == 2, timeout_s=60, what="the adapter on both")
    assert endpoint.invoke("all-adapter")["model"] == "all-model"
    assert endpoint.instances() == 2
    assert len(copies_of(server, "all-ic")) == 2


def test_a_copy_whose_host_or_worker_is_killed_is_replaced(server):
    endpoint = ComponentEndpoint(server, "mended").create()
    endpoint.model("mended-model")
    endpoint.component("mended-ic", "mended-model", copies=2, cores=0.5)
    for word in ("clary-host", "clary-worker"):
        killed = server.pids(word, "/mended-ic/")[0]
        os.kill(killed, signal.SIGKILL)
        wait_for(
            lambda word=word, killed=killed: (
                killed not in server.pids(word, "/mended-ic/")
                and len(copies_of(server, "mended-ic")) == 2
                and endpoint.copies("mended-ic") == 2
            ),
            timeout_s=60,
            what=f"another {word}",
        )
        assert endpoint.invoke("mended-ic")["model"] == "mended-model"
    assert endpoint.describe("mended-ic")["InferenceComponentStatus"] == "InService"
