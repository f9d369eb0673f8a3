"""Production variants: an A/B test, weights that change, instances that come and go."""

import os
import threading
import time
from collections.abc import Iterator
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from load import Load, count_variants
from server import Server, wait_for
from variants import a_variant_of, change, deploy_variants

ANSWERS = """
import json, os

def model_fn(model_dir):
    return "{word}"

def transform_fn(model, data, content_type, accept):
    return json.dumps({{"word": model, "pid": os.getpid()}}), "application/json"
"""

WAITING = """
import os, pathlib, time

def model_fn(model_dir):
    return pathlib.Path(os.environ["MEETING"])

def transform_fn(meeting, data, content_type, accept):
    (meeting / f"in-{os.getpid()}").touch()
    while not (meeting / "go").exists():
        time.sleep(0.02)
    return str(os.getpid()), "text/plain"
"""

BREAKS_LATER = """
import os, pathlib

def model_fn(model_dir):
    if pathlib.Path(os.environ["BROKEN"]).exists():
        raise RuntimeError("the second instance cannot load")

def transform_fn(model, data, content_type, accept):
    return "fine", "text/plain"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("variants"), CLARY_FLEET_MAX_WORKERS="1") as running:
        yield running


def describe(server: Server, name: str) -> dict[str, dict[str, Any]]:
    found = server.sagemaker.describe_endpoint(EndpointName=name)
    return {variant["VariantName"]: variant for variant in found["ProductionVariants"]}


def refusal(call: Any) -> dict[str, str]:
    with pytest.raises(ClientError) as refused:
        call()
    error: dict[str, str] = refused.value.response["Error"]
    return error


def test_a_challenger_gets_a_tenth_then_everything(server: Server) -> None:
    """The A/B test that every introduction shows: 90/10, look at B alone, then make it the winner.

    Whatever the weights, no call of a steady load is lost.
    """
    champion = a_variant_of(server, "champion", ANSWERS.format(word="old"), InitialVariantWeight=9)
    challenger = a_variant_of(
        server, "challenger", ANSWERS.format(word="new"), InitialVariantWeight=1
    )
    deploy_variants(server, "ab", [champion, challenger])

    calls, share = 5000, 0.1
    seen = count_variants(server.port, "ab", calls)
    assert seen.keys() == {"champion", "challenger"}
    # 99.9 % of all such counts lie within 3.29 standard deviations.
    deviation = 3.29 * sqrt(calls * share * (1 - share))
    assert abs(seen["challenger"] - calls * share) <= deviation + 1, seen

    assert b'"new"' in server.invoke("ab", TargetVariant="challenger")
    reply = server.runtime.invoke_endpoint(
        EndpointName="ab", Body=b"{}", ContentType="application/json", TargetVariant="champion"
    )
    assert reply["InvokedProductionVariant"] == "champion"

    with Load(server.port, "ab") as load:
        found = change(
            server, "ab", champion={"DesiredWeight": 0.0}, challenger={"DesiredWeight": 2.0}
        )
        assert count_variants(server.port, "ab", 500) == {"challenger": 500}
        # A weight of 0 keeps a variant warm, and reachable by its name.
        assert count_variants(server.port, "ab", 20, target="champion") == {"champion": 20}
        began = time.monotonic()
        wait_for(lambda: load.good_since(began) > 50, what="calls after the change")
    assert load.failures == []
    weights = [(v["CurrentWeight"], v["DesiredWeight"]) for v in found["ProductionVariants"]]
    assert weights == [(0, 0), (2, 2)]


def test_no_weight_at_all_is_a_validation_error(server: Server) -> None:
    deploy_variants(server, "weightless", [a_variant_of(server, "only", ANSWERS.format(word="x"))])
    change(server, "weightless", only={"DesiredWeight": 0.0})

    refused = refusal(lambda: server.invoke("weightless"))

    assert refused["Code"] == "ValidationError"
    assert "have the weight 0" in refused["Message"]
    assert b'"x"' in server.invoke("weightless", TargetVariant="only")
    unknown = refusal(lambda: server.invoke("weightless", TargetVariant="nobody"))
    assert unknown["Code"] == "ValidationError"


@pytest.mark.parametrize("routing", ["RANDOM", "LEAST_OUTSTANDING_REQUESTS"])
def test_instances_come_and_go_under_load(server: Server, routing: str) -> None:
    variant = a_variant_of(
        server,
        routing.replace("_", "-"),
        ANSWERS.format(word="x"),
        RoutingConfig={"RoutingStrategy": routing},
    )
    name = f"scaled-{routing[0]}"
    deploy_variants(server, name, [variant])

    def workers() -> set[bytes]:
        return {server.invoke(name) for _ in range(60)}

    with Load(server.port, name) as load:
        assert len(workers()) == 1
        found = change(server, name, **{variant["VariantName"]: {"DesiredInstanceCount": 3}})
        assert found["ProductionVariants"][0]["CurrentInstanceCount"] == 3
        # In service means that the new ones serve.
        assert len(workers()) == 3
        found = change(server, name, **{variant["VariantName"]: {"DesiredInstanceCount": 1}})
        assert found["ProductionVariants"][0]["CurrentInstanceCount"] == 1
        wait_for(
            lambda: len(server.pids("clary-worker", f"{name}/")) == 1,
            timeout_s=30,
            what="the surplus workers to end",
        )
        assert len(workers()) == 1
    assert load.failures == []


def test_a_surplus_instance_finishes_what_it_has_begun(server: Server, tmp_path: Path) -> None:
    environment = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1", "MEETING": str(tmp_path)}
    variant = a_variant_of(server, "slow", WAITING, InitialInstanceCount=2, environment=environment)
    deploy_variants(server, "drained", [variant])
    answers: list[bytes] = []

    def call() -> None:
        answers.append(server.invoke("drained"))

    calls = [threading.Thread(target=call) for _ in range(2)]
    for thread in calls:
        thread.start()
    wait_for(lambda: len(list(tmp_path.glob("in-*"))) == 2, what="both to be in the handlers")
    found = change(server, "drained", slow={"DesiredInstanceCount": 1})
    assert found["ProductionVariants"][0]["CurrentInstanceCount"] == 1
    assert answers == [], "in service does not wait for the old calls"
    assert len(server.pids("clary-worker", "drained/")) == 2
    (tmp_path / "go").touch()
    for thread in calls:
        thread.join(30)

    assert len(set(answers)) == 2
    wait_for(
        lambda: len(server.pids("clary-worker", "drained/")) == 1,
        timeout_s=20,
        what="the drained instance to end",
    )


def test_a_scale_out_that_fails_is_taken_back(server: Server, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    variant = a_variant_of(
        server,
        "fragile",
        BREAKS_LATER,
        environment={"SAGEMAKER_MODEL_SERVER_WORKERS": "1", "BROKEN": str(broken)},
    )
    deploy_variants(server, "fragile", [variant])
    broken.touch()

    with Load(server.port, "fragile") as load:
        found = change(server, "fragile", fragile={"DesiredInstanceCount": 2, "DesiredWeight": 7})

    assert load.failures == []
    assert "the second instance cannot load" in found["FailureReason"]
    (state,) = found["ProductionVariants"]
    assert (state["DesiredInstanceCount"], state["CurrentInstanceCount"]) == (1, 1)
    assert (state["DesiredWeight"], state["CurrentWeight"]) == (1.0, 1.0)

    broken.unlink()
    found = change(server, "fragile", fragile={"DesiredInstanceCount": 2})
    assert "FailureReason" not in found
    assert found["ProductionVariants"][0]["CurrentInstanceCount"] == 2


def test_traffic_can_be_moved_away_from_a_variant_that_is_broken(
    server: Server, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    environment = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1", "BROKEN": str(broken)}
    bad = a_variant_of(server, "bad", BREAKS_LATER, environment=environment)
    good = a_variant_of(server, "good", ANSWERS.format(word="x"))
    deploy_variants(server, "moved", [bad, good])
    broken.touch()
    (host,) = server.pids("clary-host", "moved/bad/")
    (worker,) = server.pids("clary-worker", "moved/bad/")
    for pid in (host, worker):
        os.kill(pid, 9)
    wait_for(
        lambda: describe(server, "moved")["bad"]["CurrentInstanceCount"] == 0,
        what="the loss to be seen",
    )

    change(server, "moved", bad={"DesiredWeight": 0.0})

    assert count_variants(server.port, "moved", 50) == {"good": 50}
