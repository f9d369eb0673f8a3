"""A shadow variant gets copies of production's calls, and whatever it does, no client sees it."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from load import Load
from server import Server, wait_for
from variants import ONE_WORKER, a_variant_of, deploy_variants

PRODUCTION = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    return "from production", "text/plain"
"""

SHADOW = """
import os, pathlib, time

def model_fn(model_dir):
    return open(os.environ["SEEN"], "a", buffering=1)

def transform_fn(model, data, content_type, accept):
    mode = pathlib.Path(os.environ["MODE"]).read_text()
    model.write("call\\n")
    if mode == "slow":
        time.sleep(0.2)
    elif mode == "hang":
        time.sleep(1000)
    elif mode == "crash":
        os._exit(1)
    elif mode == "raise":
        raise ValueError("nobody hears this")
    elif mode == "large":
        return b"x" * 3_000_000, "application/octet-stream"
    return b"from the shadow", "text/plain"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(
        tmp_path_factory.mktemp("shadow"),
        CLARY_FLEET_MAX_WORKERS="1",
        CLARY_ROUTER_SHADOW_MAX_OUTSTANDING="4",
    ) as running:
        yield running


Deploy = Callable[..., dict[str, Any]]


@pytest.fixture
def mode(tmp_path: Path) -> Path:
    """The file that tells the shadow how to behave."""
    file = tmp_path / "mode"
    file.write_text("good")
    return file


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], int]:
    """How many calls the shadow has begun."""
    file = tmp_path / "seen"
    file.touch()
    return lambda: file.read_text().count("call")


@pytest.fixture
def shadowed(server: Server, mode: Path, tmp_path: Path) -> Callable[..., str]:
    """Deploy an endpoint whose shadow behaves as the file says; return its name."""

    def deploy(name: str, weight: float = 1.0) -> str:
        environment = {**ONE_WORKER, "MODE": str(mode), "SEEN": str(tmp_path / "seen")}
        production = a_variant_of(server, f"{name}-production", PRODUCTION)
        shadow = a_variant_of(
            server,
            f"{name}-shadow",
            SHADOW,
            environment=environment,
            InitialVariantWeight=weight,
        )
        deploy_variants(server, name, [production], [shadow])
        return name

    return deploy


def test_every_call_is_copied_and_its_own_answer_comes_back(
    server: Server, shadowed: Callable[..., str], calls: Callable[[], int], mode: Path
) -> None:
    name = shadowed("copied")
    found = server.sagemaker.describe_endpoint(EndpointName=name)
    (shadow,) = found["ShadowProductionVariants"]
    assert shadow["VariantName"] == "copied-shadow"
    assert (shadow["CurrentInstanceCount"], shadow["CurrentWeight"]) == (1, 1.0)

    for n in range(20):
        reply = server.runtime.invoke_endpoint(
            EndpointName=name, Body=b"{}", ContentType="application/json"
        )
        assert reply["Body"].read() == b"from production"
        assert reply["InvokedProductionVariant"] == "copied-production"
        wait_for(lambda n=n: calls() == n + 1, what="the copy")  # type: ignore[misc]

    mode.write_text("large")  # more than the window: read to its end and thrown away

    def are_copied() -> bool:
        server.invoke(name)
        return calls() >= 28  # twice as many as there may be open

    wait_for(are_copied, what="copies whose answers are large", poll_s=0.05)


TELLER = """
def model_fn(model_dir):
    return None

def predict_fn(data, model):
    for word in ("once", "upon", "a", "time"):
        yield word + " "

def output_fn(prediction, accept):
    return prediction, "text/plain"
"""


def test_a_streamed_call_is_copied_and_the_stream_is_productions(
    server: Server, calls: Callable[[], int], mode: Path, tmp_path: Path
) -> None:
    environment = {**ONE_WORKER, "MODE": str(mode), "SEEN": str(tmp_path / "seen")}
    deploy_variants(
        server,
        "streamed",
        [a_variant_of(server, "streamed-production", TELLER)],
        [a_variant_of(server, "streamed-shadow", SHADOW, environment=environment)],
    )

    def told() -> tuple[list[bytes], str]:
        reply = server.runtime.invoke_endpoint_with_response_stream(
            EndpointName="streamed", Body=b"{}", ContentType="application/json"
        )
        parts = [event["PayloadPart"]["Bytes"] for event in reply["Body"]]
        return parts, reply["InvokedProductionVariant"]

    story = ([b"once ", b"upon ", b"a ", b"time "], "streamed-production")
    for n, behaviour in enumerate(("good", "large", "raise", "slow"), 1):
        mode.write_text(behaviour)
        assert told() == story
        wait_for(lambda n=n: calls() == n, what="the copy")  # type: ignore[misc]
    mode.write_text("crash")
    assert told() == story
    wait_for(lambda: calls() == 5, what="the copy that ends the shadow's worker")
    assert told() == story


def counted(server: Server, name: str, variant: str, what: str) -> int:
    """What the gateways have told so far, which they do each second."""
    with urllib.request.urlopen(f"{server.url}/_clary/endpoints/{name}", timeout=5) as reply:
        counters: dict[str, dict[str, int]] = json.load(reply)["counters"]
    return counters.get(f"{name}-{variant}", {}).get(what, 0)


def test_a_weight_changes_the_share_of_a_shadow(
    server: Server, shadowed: Callable[..., str], calls: Callable[[], int]
) -> None:
    name = shadowed("shared", weight=0.0)
    for _ in range(10):
        server.invoke(name)
    server.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[{"VariantName": "shared-shadow", "DesiredWeight": 0.5}],
    )
    server.wait_for_status(name, "InService")
    for _ in range(200):
        server.invoke(name)
    wait_for(lambda: calls() > 60, what="half of the copies")
    assert calls() < 140  # 100 on average; so far off once in 10 million times


@pytest.mark.parametrize("behaviour", ["slow", "hang", "crash", "raise"])
def test_whatever_a_shadow_does_production_goes_on(
    server: Server,
    shadowed: Callable[..., str],
    mode: Path,
    calls: Callable[[], int],
    behaviour: str,
) -> None:
    name = shadowed(f"with-{behaviour}")
    mode.write_text(behaviour)

    with Load(server.port, name) as load:
        began = time.monotonic()
        wait_for(lambda: load.good_since(began) > 400, timeout_s=30, what="400 calls")
        wait_for(lambda: calls() > 0, what="a first copy")

    assert load.failures == []
    # A call that had waited for the shadow would have taken 200 ms at least.
    seconds = sorted(outcome.seconds for outcome in load.outcomes)
    assert seconds[len(seconds) // 2] < 0.05
    if behaviour in ("slow", "hang"):
        assert calls() < len(load.outcomes) / 2, "what lags gets no more than it can take"
        wait_for(
            lambda: counted(server, name, "shadow", "dropped") > len(load.outcomes) / 2,
            what="the counters",
        )
    if behaviour == "raise":
        wait_for(lambda: counted(server, name, "shadow", "model_errors") > 0, what="the counters")
    assert counted(server, name, "production", "model_errors") == 0
    mode.write_text("good")
    for pid in server.pids("clary-worker", f"{name}/{name}-shadow/"):
        os.kill(pid, signal.SIGKILL)  # one that hangs would be given 30 s at the end


def test_an_endpoint_whose_shadow_cannot_load_is_not_created(server: Server) -> None:
    production = a_variant_of(server, "p-failing", PRODUCTION)
    shadow = a_variant_of(server, "s-failing", "import no_such_module_anywhere")
    server.sagemaker.create_endpoint_config(
        EndpointConfigName="failing",
        ProductionVariants=[production],
        ShadowProductionVariants=[shadow],
    )
    server.sagemaker.create_endpoint(EndpointName="failing", EndpointConfigName="failing")

    found = server.wait_for_status("failing", "Failed")

    assert "production variant s-failing" in found["FailureReason"]
