"""Updates of endpoints under a steady load: no call is lost, whatever becomes of the update."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from server import Server, wait_for
from updates import (
    BROKEN,
    WORD,
    a_config,
    a_model,
    an_endpoint_under_load,
    answers_since,
    blue_green,
    describe,
    kill_control,
    update,
    variant_status,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("updates"), CLARY_FLEET_MAX_WORKERS="1") as running:
        for word in ("old", "new"):
            a_model(running, word, WORD.format(word=word))
        a_model(running, "broken", BROKEN)
        yield running


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
        wait_for(lambda: len(server.pids("clary-host", " plain/")) == 1, what="the old to stop")


STRATEGIES = {
    "all-at-once": blue_green("ALL_AT_ONCE", last_wait_s=1),
    "canary": blue_green("CANARY", 2, 1, CanarySize={"Type": "CAPACITY_PERCENT", "Value": 30}),
    "linear": blue_green("LINEAR", 2, 0, LinearStepSize={"Type": "INSTANCE_COUNT", "Value": 1}),
    "rolling": {
        "RollingUpdatePolicy": {
            "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 50},
            "WaitIntervalInSeconds": 2,
        }
    },
}


STEPS = {
    "all-at-once": ["Creating", "ActivatingTraffic", "Baking"],
    "canary": ["Creating", *("ActivatingTraffic", "Baking") * 2],
    "linear": ["Creating", *("ActivatingTraffic", "Baking") * 2],
    "rolling": ["Creating", "ActivatingTraffic", "Baking"] * 2,
}
"""What the new fleet's variant is busy with, one after the other."""


def deployment_events(server: Server, name: str) -> list[dict[str, Any]]:
    """The details of an endpoint's deployment events, once each, as its file has them."""
    lines = (server.data_dir / "events.jsonl").read_text().splitlines()
    events = {event["id"]: event for event in map(json.loads, lines)}.values()
    return [
        event["detail"]
        for event in events
        if event["detail-type"] == "SageMaker Endpoint Deployment State Change"
        and event["detail"]["EndpointName"] == name
    ]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_policy_moves_traffic_step_by_step_while_control_is_killed(
    server: Server, strategy: str
) -> None:
    with an_endpoint_under_load(server, strategy, count=2) as load:
        update(
            server,
            strategy,
            a_config(server, f"{strategy}-new", "new", 2),
            DeploymentConfig=STRATEGIES[strategy],
        )
        kill_control(server)  # while instances are launched
        wait_for(
            lambda: variant_status(server, strategy).startswith("Baking"),
            timeout_s=20,
            what="a bake",
        )
        moment = time.monotonic()
        kill_control(server)
        found = server.wait_for_status(strategy, "InService")
        assert found["EndpointConfigName"] == f"{strategy}-new"
        assert found["LastDeploymentConfig"] == STRATEGIES[strategy]
        if strategy != "all-at-once":  # both fleets had their part while the first step was baked
            baked = {o.body for o in load.outcomes if moment < o.started < moment + 0.3}
            assert baked == {b"old", b"new"}
        moment = time.monotonic()
        wait_for(lambda: load.good_since(moment) > 50, what="calls after the update")
        assert answers_since(load, moment) == {b"new"}
        wait_for(
            lambda: len(server.pids("clary-host", f" {strategy}/")) == 2, what="the old to stop"
        )
        wait_for(
            lambda: len(deployment_events(server, strategy)) >= len(STEPS[strategy]),
            what="the events of all steps",
        )
        told = deployment_events(server, strategy)
        variants = [detail["PendingDeploymentSummary"]["ProductionVariants"][0] for detail in told]
        assert [v["VariantStatus"][0]["Status"] for v in variants] == STEPS[strategy]
        assert {detail["EndpointStatus"] for detail in told} == {"UPDATING"}


def test_counts_and_weights_change_while_control_is_killed(server: Server) -> None:
    with an_endpoint_under_load(server, "sizes") as load:
        for count in (3, 1):
            server.sagemaker.update_endpoint_weights_and_capacities(
                EndpointName="sizes",
                DesiredWeightsAndCapacities=[
                    {
                        "VariantName": "AllTraffic",
                        "DesiredInstanceCount": count,
                        "DesiredWeight": 1.0 / count,
                    }
                ],
            )
            kill_control(server)
            found = server.wait_for_status("sizes", "InService")["ProductionVariants"][0]
            assert found["CurrentInstanceCount"] == count
            assert found["CurrentWeight"] == pytest.approx(1.0 / count)
            moment = time.monotonic()
            wait_for(lambda: load.good_since(moment) > 20, what="the load to go on")  # noqa: B023
        wait_for(lambda: len(server.pids("clary-host", " sizes/")) == 1, what="the surplus to stop")


@pytest.mark.parametrize("strategy", ["all-at-once", "rolling"])
def test_a_model_that_does_not_load_leaves_the_old_one_serving(
    server: Server, strategy: str
) -> None:
    name = f"unwell-{strategy}"
    with an_endpoint_under_load(server, name, count=2) as load:
        update(
            server,
            name,
            a_config(server, f"{name}-new", "broken", 2),
            DeploymentConfig=STRATEGIES[strategy],
        )
        kill_control(server)
        found = server.wait_for_status(name, "InService")
        assert found["EndpointConfigName"] == f"{name}-old"
        assert "this model is not well" in found["FailureReason"]
        assert found["ProductionVariants"][0]["CurrentInstanceCount"] == 2
        assert {o.body for o in load.outcomes} == {b"old"}
        wait_for(lambda: len(server.pids("clary-host", f" {name}/")) == 2, what="the new to stop")


def refusal(call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(ClientError) as refused:
        call()
    error = refused.value.response["Error"]
    return error["Code"], error["Message"]


def test_updates_that_cannot_be_are_refused_in_awss_words(server: Server) -> None:
    with an_endpoint_under_load(server, "refusals"):
        good = a_config(server, "refusals-new", "new")
        a_model(server, "lost", BROKEN)
        a_config(server, "refusals-lost", "lost")
        server.sagemaker.delete_model(ModelName="lost")
        cases: list[tuple[str, Mapping[str, Any], str, str]] = [
            ("no-such", {}, "ValidationException", "Could not find endpoint configuration"),
            ("refusals-lost", {}, "ValidationException", "Could not find model"),
            (
                good,
                {
                    "DeploymentConfig": STRATEGIES["canary"],
                    "RetainDeploymentConfig": True,
                },
                "ValidationException",
                "RetainDeploymentConfig",
            ),
            (
                good,
                {"DeploymentConfig": {**STRATEGIES["canary"], **STRATEGIES["rolling"]}},
                "ValidationException",
                "Only one update policy",
            ),
            (
                good,
                {
                    "DeploymentConfig": {
                        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "no-such"}]}
                    }
                },
                "ValidationException",
                "no-such",
            ),
        ]
        for config, members, code, words in cases:
            refused = refusal(lambda: update(server, "refusals", config, **members))  # noqa: B023
            assert refused[0] == code
            assert words in refused[1]
        assert refusal(lambda: update(server, "nobody", good))[1].startswith(
            "Could not find endpoint"
        )
        assert describe(server, "refusals")["EndpointStatus"] == "InService"

        update(server, "refusals", good, DeploymentConfig=STRATEGIES["all-at-once"])
        for call in (
            lambda: update(server, "refusals", good),
            lambda: server.sagemaker.delete_endpoint(EndpointName="refusals"),
        ):
            assert "Cannot update in-progress endpoint" in refusal(call)[1]
        assert server.wait_for_status("refusals", "InService")["EndpointConfigName"] == good
