"""Alarms roll updates back, under a steady load of which no call is lost."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from server import Server, wait_for
from updates import (
    LONG,
    WORD,
    a_config,
    a_model,
    an_endpoint_under_load,
    answers_since,
    kill_control,
    update,
    variant_status,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("guarded"), CLARY_FLEET_MAX_WORKERS="1") as running:
        for word in ("old", "new"):
            a_model(running, word, WORD.format(word=word))
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
