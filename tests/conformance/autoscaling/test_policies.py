"""PutScalingPolicy and its like, by boto3."""

import pytest

from autoscaling_cases import refused

TRACKING = {
    "TargetValue": 70.0,
    "PredefinedMetricSpecification": {
        "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
    },
    "ScaleOutCooldown": 60,
    "ScaleInCooldown": 300,
}
STEPS = {
    "AdjustmentType": "ChangeInCapacity",
    "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
    "Cooldown": 60,
}


def put_tracking(scaling, target, name="track", **changes):
    return scaling.put_scaling_policy(
        **target,
        PolicyName=name,
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={**TRACKING, **changes},
    )


def put_steps(scaling, target, name="steps", **changes):
    return scaling.put_scaling_policy(
        **target,
        PolicyName=name,
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={**STEPS, **changes},
    )


def policies(scaling, target, **more):
    return scaling.describe_scaling_policies(
        ServiceNamespace="sagemaker", ResourceId=target["ResourceId"], **more
    )["ScalingPolicies"]


def test_a_target_tracking_policy_has_two_alarms(scaling, target):
    put = put_tracking(scaling, target)
    assert put["PolicyARN"].startswith("arn:aws:autoscaling:us-east-1:123456789012:scalingPolicy:")
    assert put["PolicyARN"].endswith(f":resource/sagemaker/{target['ResourceId']}:policyName/track")
    names = [alarm["AlarmName"] for alarm in put["Alarms"]]
    prefix = f"TargetTracking-{target['ResourceId']}"
    assert names[0].startswith(f"{prefix}-AlarmHigh-")
    assert names[1].startswith(f"{prefix}-AlarmLow-")
    assert put["Alarms"][0]["AlarmARN"] == (
        f"arn:aws:cloudwatch:us-east-1:123456789012:alarm:{names[0]}"
    )
    [described] = policies(scaling, target)
    assert described.pop("CreationTime") is not None
    assert described == {
        **target,
        "PolicyName": "track",
        "PolicyARN": put["PolicyARN"],
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": TRACKING,
        "Alarms": put["Alarms"],
    }


def test_a_policy_of_the_same_name_is_replaced_and_keeps_its_arn(scaling, target):
    first = put_tracking(scaling, target)
    second = put_tracking(scaling, target, TargetValue=50.0, DisableScaleIn=True)
    assert second["PolicyARN"] == first["PolicyARN"]
    assert second["Alarms"] == first["Alarms"][:1]
    third = put_tracking(scaling, target)
    assert third["Alarms"][0] == first["Alarms"][0]
    assert len(third["Alarms"]) == 2
    steps = put_steps(scaling, target, name="track")
    assert steps["Alarms"] == []
    [described] = policies(scaling, target)
    assert described["PolicyType"] == "StepScaling"
    assert "TargetTrackingScalingPolicyConfiguration" not in described


def test_policies_are_listed_by_name_and_deleted(scaling, target):
    put_tracking(scaling, target)
    put_steps(scaling, target)
    assert [p["PolicyName"] for p in policies(scaling, target)] == ["track", "steps"]
    assert [p["PolicyName"] for p in policies(scaling, target, PolicyNames=["steps"])] == ["steps"]
    scaling.delete_scaling_policy(**target, PolicyName="steps")
    code, message = refused(lambda: scaling.delete_scaling_policy(**target, PolicyName="steps"))
    assert code == "ObjectNotFoundException"
    assert message.startswith("No scaling policy found for service namespace: sagemaker, ")
    scaling.deregister_scalable_target(**target)
    assert policies(scaling, target) == []
    code, message = refused(lambda: put_tracking(scaling, target))
    assert code == "ObjectNotFoundException"
    assert message.startswith("No scalable target registered for service namespace: sagemaker, ")


def test_metric_math_is_taken(scaling, target):
    def metric(name):
        return {
            "Metric": {
                "MetricName": name,
                "Namespace": "AWS/SageMaker",
                "Dimensions": [{"Name": "EndpointName", "Value": "e"}],
            },
            "Stat": "Sum",
        }

    customized = {
        "Metrics": [
            {"Id": "m1", "MetricStat": metric("ApproximateBacklogSize"), "ReturnData": False},
            {"Id": "m2", "MetricStat": metric("Invocations"), "ReturnData": False},
            {"Id": "e1", "Expression": "m1 / m2", "Label": "load"},
        ]
    }
    put = scaling.put_scaling_policy(
        **target,
        PolicyName="math",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 5.0,
            "CustomizedMetricSpecification": customized,
        },
    )
    assert len(put["Alarms"]) == 2
    [described] = policies(scaling, target)
    configuration = described["TargetTrackingScalingPolicyConfiguration"]
    assert configuration["CustomizedMetricSpecification"] == customized


def test_two_policies_cannot_track_one_metric(scaling, target):
    put_tracking(scaling, target)
    code, message = refused(lambda: put_tracking(scaling, target, name="other"))
    assert code == "ValidationException"
    assert message == (
        "Only one TargetTrackingScaling policy for a given metric specification is allowed."
    )
    high_resolution = {
        "PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"
    }
    put_tracking(scaling, target, name="other", PredefinedMetricSpecification=high_resolution)


CUSTOM = {"MetricName": "M", "Namespace": "N", "Statistic": "Average"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"TargetValue": 0.0}, "above 0"),
        ({"TargetValue": -1.0}, "above 0"),
        ({"ScaleInCooldown": -1}, "ScaleInCooldown must be 0 or more"),
        ({"CustomizedMetricSpecification": CUSTOM}, "Exactly one of"),
        ({"PredefinedMetricSpecification": None}, "Exactly one of"),
        (
            {"PredefinedMetricSpecification": {"PredefinedMetricType": "ECSServiceAverageCPU"}},
            "enum value set",
        ),
        (
            {
                "PredefinedMetricSpecification": {
                    "PredefinedMetricType": "SageMakerInferenceComponentInvocationsPerCopy"
                }
            },
            "is not supported for scalable dimension",
        ),
        (
            {
                "PredefinedMetricSpecification": {
                    "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance",
                    "ResourceLabel": "app/x",
                }
            },
            "ResourceLabel cannot be specified",
        ),
        (
            {
                "PredefinedMetricSpecification": None,
                "CustomizedMetricSpecification": {"MetricName": "M"},
            },
            "must have MetricName, Namespace and Statistic",
        ),
        (
            {
                "PredefinedMetricSpecification": None,
                "CustomizedMetricSpecification": {
                    "Metrics": [{"Id": "a", "Expression": "1"}, {"Id": "b", "Expression": "a"}]
                },
            },
            "Exactly one of Metrics must have ReturnData true; 2 have",
        ),
        (
            {
                "PredefinedMetricSpecification": None,
                "CustomizedMetricSpecification": {"Metrics": [{"Id": "a"}]},
            },
            "exactly one of Expression and MetricStat",
        ),
    ],
)
def test_contradictory_target_tracking_is_refused(scaling, target, changes, words):
    configuration = {k: v for k, v in {**TRACKING, **changes}.items() if v is not None}
    code, message = refused(
        lambda: scaling.put_scaling_policy(
            **target,
            PolicyName="bad",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration=configuration,
        )
    )
    assert code == "ValidationException"
    assert words in message
    assert policies(scaling, target) == []


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ([(None, None)], "At least one of MetricIntervalLowerBound"),
        ([(0.0, 10.0), (5.0, None)], "can't overlap"),
        ([(0.0, None), (0.0, None)], "can't overlap"),
        ([(0.0, 10.0), (20.0, None)], "can't have a gap"),
        ([(10.0, 10.0)], "must be less than"),
        ([(-10.0, 0.0)], "unspecified lower bound"),
        ([(0.0, 10.0)], "unspecified upper bound"),
        ([], "at least one step adjustment"),
        ([(float(n), float(n + 1)) for n in range(20)] + [(20.0, None)], "at most 20"),
    ],
)
def test_contradictory_steps_are_refused(scaling, target, bounds, words):
    adjustments = []
    for lower, upper in bounds:
        step = {"ScalingAdjustment": 1}
        if lower is not None:
            step["MetricIntervalLowerBound"] = lower
        if upper is not None:
            step["MetricIntervalUpperBound"] = upper
        adjustments.append(step)
    code, message = refused(lambda: put_steps(scaling, target, StepAdjustments=adjustments))
    assert code == "ValidationException"
    assert words in message


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({}, "PolicyType must be specified"),
        ({"PolicyType": "PredictiveScaling"}, "not supported"),
        ({"PolicyType": "StepScaling"}, "StepScalingPolicyConfiguration must be specified"),
        (
            {
                "PolicyType": "StepScaling",
                "StepScalingPolicyConfiguration": STEPS,
                "TargetTrackingScalingPolicyConfiguration": TRACKING,
            },
            "TargetTrackingScalingPolicyConfiguration cannot be specified",
        ),
        (
            {
                "PolicyType": "StepScaling",
                "StepScalingPolicyConfiguration": {**STEPS, "MinAdjustmentMagnitude": 2},
            },
            "only be specified with PercentChangeInCapacity",
        ),
        (
            {
                "PolicyType": "StepScaling",
                "StepScalingPolicyConfiguration": {"StepAdjustments": STEPS["StepAdjustments"]},
            },
            "AdjustmentType must be specified",
        ),
        (
            {
                "PolicyType": "StepScaling",
                "StepScalingPolicyConfiguration": {**STEPS, "Cooldown": -5},
            },
            "Cooldown must be 0 or more",
        ),
    ],
)
def test_policies_that_do_not_fit_together_are_refused(scaling, target, request_, words):
    code, message = refused(
        lambda: scaling.put_scaling_policy(**target, PolicyName="bad", **request_)
    )
    assert code == "ValidationException"
    assert words in message
