"""Copies follow load and clock, by Application Auto Scaling on shortened periods."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from components import ComponentEndpoint
from server import Server, wait_for

SHORT = {
    "CLARY_AUTOSCALING_PERIOD_S": "5",
    "CLARY_AUTOSCALING_HIGH_RESOLUTION_PERIOD_S": "10",
    "CLARY_AUTOSCALING_OUT_PERIODS": "1",
    "CLARY_AUTOSCALING_IN_PERIODS": "2",
    "CLARY_FLEET_MAX_WORKERS": "1",
}
DIMENSION = "sagemaker:inference-component:DesiredCopyCount"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("server"), **SHORT) as running:
        yield running


def target_of(component):
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"inference-component/{component}",
        "ScalableDimension": DIMENSION,
    }


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("metric", "target", "sleep_s"),
    [
        ("SageMakerInferenceComponentInvocationsPerCopy", 5.0, 0.0),
        ("SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution", 1.0, 0.2),
    ],
    ids=["invocations", "concurrency"],
)
def test_target_tracking_adds_copies_and_removes_them_again(server, metric, target, sleep_s):
    name = "by-" + ("load" if sleep_s else "calls")
    endpoint = ComponentEndpoint(server, name).create(bounds=(1, 2))
    endpoint.model(f"{name}-model")
    endpoint.component(f"{name}-ic", f"{name}-model")
    scaling = server.client("application-autoscaling")
    resource = target_of(f"{name}-ic")
    scaling.register_scalable_target(**resource, MinCapacity=1, MaxCapacity=3)
    scaling.put_scaling_policy(
        **resource,
        PolicyName="track",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": target,
            "PredefinedMetricSpecification": {"PredefinedMetricType": metric},
            "ScaleOutCooldown": 0,
            "ScaleInCooldown": 0,
        },
    )
    ended = threading.Event()

    def call():
        while not ended.is_set():
            endpoint.invoke(f"{name}-ic", {"sleep_s": sleep_s})
            ended.wait(0.05)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    try:
        wait_for(lambda: endpoint.copies(f"{name}-ic") >= 2, timeout_s=120, what="another copy")
    finally:
        ended.set()
        for caller in callers:
            caller.join()
    if sleep_s:  # the metric of calls is 0 but once a minute: that would take two of them
        wait_for(lambda: endpoint.copies(f"{name}-ic") == 1, timeout_s=180, what="one copy again")
    endpoint.delete(f"{name}-ic")
    endpoint.remove()


def test_a_scheduled_action_brings_copies_and_takes_them(server):
    endpoint = ComponentEndpoint(server, "timed").create()
    endpoint.model("timed-model")
    endpoint.component("timed-ic", "timed-model", copies=0, cores=0.5)
    scaling = server.client("application-autoscaling")
    resource = target_of("timed-ic")
    scaling.register_scalable_target(**resource, MinCapacity=0, MaxCapacity=2)
    for least, most in ((2, 2), (0, 0)):
        at = datetime.now(UTC) + timedelta(seconds=2)
        scaling.put_scheduled_action(
            **resource,
            ScheduledActionName="clock",
            Schedule=f"at({at:%Y-%m-%dT%H:%M:%S})",
            ScalableTargetAction={"MinCapacity": least, "MaxCapacity": most},
        )
        wait_for(
            lambda most=most: endpoint.copies("timed-ic") == most,
            timeout_s=60,
            what=f"{most} copies",
        )
        endpoint.wait_for("timed-ic")
    endpoint.delete("timed-ic")
    endpoint.remove()
