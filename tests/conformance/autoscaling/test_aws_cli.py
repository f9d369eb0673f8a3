"""The AWS CLI's documented examples of `aws application-autoscaling`, on a variant's instances."""

import json

import pytest

from autoscaling_cases import DIMENSION
from aws_cli import AwsCli, needs_aws
from server import Server

pytestmark = needs_aws

CONFIG = {
    "TargetValue": 75.0,
    "PredefinedMetricSpecification": {
        "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
    },
    "ScaleOutCooldown": 60,
    "ScaleInCooldown": 60,
}
CUSTOM = {
    "TargetValue": 75.0,
    "CustomizedMetricSpecification": {
        "MetricName": "MyUtilizationMetric",
        "Namespace": "MyNamespace",
        "Dimensions": [{"Name": "MyOptionalMetricDimensionName", "Value": "MyValue"}],
        "Statistic": "Average",
        "Unit": "Percent",
    },
    "DisableScaleIn": True,
}


@pytest.fixture
def scaling(server: Server, tmp_path) -> AwsCli:
    for name, document in (("config", CONFIG), ("custom", CUSTOM)):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    return AwsCli(server, tmp_path)


def test_a_target_its_policies_and_actions(scaling: AwsCli, resource: dict[str, str]) -> None:
    names = (
        "--service-namespace sagemaker --scalable-dimension sagemaker:variant:DesiredInstanceCount "
        f"--resource-id {resource['ResourceId']} "
    )

    def run(operation: str, options: str = ""):
        return scaling.line(f"application-autoscaling {operation} {options}")

    arn = run(
        "register-scalable-target",
        f"{names}--min-capacity 1 --max-capacity 10 --tags environment=production",
    )["ScalableTargetARN"]
    states = ",".join(
        f"{kind}Suspended=true"
        for kind in ("DynamicScalingIn", "DynamicScalingOut", "ScheduledScaling")
    )
    again = run("register-scalable-target", f"{names}--suspended-state {states}")
    assert again["ScalableTargetARN"] == arn
    found = run("describe-scalable-targets", "--service-namespace sagemaker")["ScalableTargets"]
    (target,) = (t for t in found if t["ResourceId"] == resource["ResourceId"])
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 10)
    assert target["ScalableDimension"] == DIMENSION
    assert set(target["SuspendedState"].values()) == {True}
    tags = run("list-tags-for-resource", f"--resource-arn {arn}")
    assert tags == {"Tags": {"environment": "production"}}

    policy = f"put-scaling-policy {names}--policy-type TargetTrackingScaling --policy-name "
    given = " --target-tracking-scaling-policy-configuration file://"
    both = run(f"{policy}target-75 {given}config.json")["Alarms"]
    assert ["AlarmHigh" in both[0]["AlarmName"], "AlarmLow" in both[1]["AlarmName"]] == [True] * 2
    (out,) = run(f"{policy}out-only {given}custom.json")["Alarms"]
    assert f"TargetTracking-{resource['ResourceId']}-AlarmHigh-" in out["AlarmName"]
    policies = run(
        "describe-scaling-policies",
        f"--service-namespace sagemaker --resource-id {resource['ResourceId']}",
    )["ScalingPolicies"]
    by_name = {p["PolicyName"]: p["TargetTrackingScalingPolicyConfiguration"] for p in policies}
    assert by_name == {"target-75": CONFIG, "out-only": CUSTOM}

    recurring = "--scheduled-action-name my-recurring-action "
    run(
        "put-scheduled-action",
        f'{names}{recurring}--schedule "cron(15 12 * * ? *)" '
        "--scalable-target-action MinCapacity=6",
    )
    (action,) = run(
        "describe-scheduled-actions",
        f"--service-namespace sagemaker --resource-id {resource['ResourceId']}",
    )["ScheduledActions"]
    assert action["Schedule"] == "cron(15 12 * * ? *)"
    assert action["ScalableTargetAction"] == {"MinCapacity": 6}

    assert run("delete-scheduled-action", names + recurring) is None
    run("delete-scaling-policy", f"{names}--policy-name target-75")
    run("deregister-scalable-target", names)
    activities = run(
        "describe-scaling-activities",
        f"--service-namespace sagemaker --resource-id {resource['ResourceId']}",
    )
    assert activities == {"ScalingActivities": []}
    left = run("describe-scalable-targets", "--service-namespace sagemaker")["ScalableTargets"]
    assert resource["ResourceId"] not in [t["ResourceId"] for t in left]
