"""Alarms roll updates back, under a steady load of which no call is lost by that."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from load import Load
from server import Server, wait_for
from updates import (
    LONG,
    RATE,
    WORD,
    a_config,
    a_model,
    an_endpoint_under_load,
    answers_since,
    kill_control,
    update,
    variant_status,
)

FAULTY = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    raise RuntimeError("it loads, and answers nobody")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("guarded"), CLARY_FLEET_MAX_WORKERS="1") as running:
        for word in ("old", "new"):
            a_model(running, word, WORD.format(word=word))
        a_model(running, "faulty", FAULTY)
        yield running


ERRORS = {
    "Namespace": "AWS/SageMaker",
    "MetricName": "Invocation5XXErrors",
    "Dimensions": [{"Name": "EndpointName", "Value": "guarded"}],
    "Statistic": "Sum",
    "Period": 60,
    "EvaluationPeriods": 1,
    "Threshold": 5,
    "ComparisonOperator": "GreaterThanThreshold",
    "TreatMissingData": "ignore",
}


@pytest.fixture
def alarm(server: Server) -> Iterator[Callable[[str], None]]:
    """Sets an alarm that exists to a state."""
    cloudwatch = server.client("cloudwatch")
    cloudwatch.put_metric_alarm(AlarmName="guard", **ERRORS)

    def set_state(value: str) -> None:
        cloudwatch.set_alarm_state(
            AlarmName="guard", StateValue=value, StateReason=f"It counted 7 ({value})."
        )

    set_state("OK")
    yield set_state
    with suppress(cloudwatch.exceptions.ResourceNotFound):
        cloudwatch.delete_alarms(AlarmNames=["guard"])


GUARD = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "guard"}]}}


@pytest.mark.parametrize("strategy", ["canary", "rolling"])
def test_an_alarm_in_a_bake_brings_the_old_fleet_back(
    server: Server, alarm: Callable[[str], None], strategy: str
) -> None:
    name = f"guarded-{strategy}"
    with an_endpoint_under_load(server, name, count=2) as load:
        update(
            server,
            name,
            a_config(server, f"{name}-new", "new", 2),
            DeploymentConfig={**LONG[strategy], **GUARD},
        )
        wait_for(
            lambda: variant_status(server, name).startswith("Baking"),
            timeout_s=20,
            what="a bake",
        )
        kill_control(server)
        moment = time.monotonic()
        wait_for(lambda: answers_since(load, moment) == {b"old", b"new"}, what="both fleets")
        alarm("ALARM")
        found = server.wait_for_status(name, "InService")
        assert found["EndpointConfigName"] == f"{name}-old"
        assert 'alarm "guard" is in state ALARM. It counted 7 (ALARM).' in found["FailureReason"]
        moment = time.monotonic()
        wait_for(lambda: load.good_since(moment) > 50, what="calls after the rollback")
        assert answers_since(load, moment) == {b"old"}


def test_an_alarm_that_rings_before_or_goes_away_stops_an_update_too(
    server: Server, alarm: Callable[[str], None]
) -> None:
    alarm("ALARM")
    with an_endpoint_under_load(server, "warned") as load:
        config = a_config(server, "warned-new", "new")
        update(server, "warned", config, DeploymentConfig=GUARD)
        found = server.wait_for_status("warned", "InService")
        assert found["EndpointConfigName"] == "warned-old"
        assert "is in state ALARM" in found["FailureReason"]

        alarm("OK")
        update(server, "warned", config, DeploymentConfig={**LONG["canary"], **GUARD})
        wait_for(
            lambda: variant_status(server, "warned").startswith("Baking"),
            timeout_s=20,
            what="a bake",
        )
        server.client("cloudwatch").delete_alarms(AlarmNames=["guard"])
        found = server.wait_for_status("warned", "InService")
        assert found["EndpointConfigName"] == "warned-old"
        assert (
            'alarm "guard" of its AutoRollbackConfiguration was deleted' in (found["FailureReason"])
        )
        assert load.failures == []


@pytest.mark.parametrize("seen_by", ["variant", "configuration"])
def test_errors_of_a_new_model_bring_the_old_one_back_by_themselves(
    server: Server, seen_by: str
) -> None:
    """Nobody sets an alarm here: errors are counted, the alarm sees them, the update is off."""
    name = f"faulty-{seen_by}"
    dimensions = {"EndpointName": name, "VariantName": "AllTraffic"}
    if seen_by == "configuration":
        dimensions["EndpointConfigName"] = f"{name}-new"
    cloudwatch = server.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        **{
            **ERRORS,
            "AlarmName": name,
            "Dimensions": [{"Name": n, "Value": v} for n, v in dimensions.items()],
            "Period": 10,
        }
    )
    a_config(server, f"{name}-old", "old", 2)
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=f"{name}-old")
    server.wait_for_status(name, "InService")
    with Load(server.port, name, rate=RATE) as load:
        wait_for(lambda: load.good_since(0) > 20, what="the load to run")
        update(
            server,
            name,
            a_config(server, f"{name}-new", "faulty", 2),
            DeploymentConfig={
                **LONG["canary"],
                "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": name}]},
            },
        )
        found = server.wait_for_status(name, "InService")
        moment = time.monotonic()
        wait_for(lambda: load.good_since(moment) > 50, what="calls after the rollback")
    assert found["EndpointConfigName"] == f"{name}-old"
    assert (
        f'alarm "{name}" is in state ALARM. Threshold Crossed: 1 out of the last 1 datapoints'
        in (found["FailureReason"])
    )
    assert {outcome.status for outcome in load.failures} == {424}
    assert not [outcome for outcome in load.failures if outcome.started > moment]
    server.sagemaker.delete_endpoint(EndpointName=name)
    cloudwatch.delete_alarms(AlarmNames=[name])
