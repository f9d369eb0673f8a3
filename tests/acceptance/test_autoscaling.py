"""Policies that act: alarms call them, instances come and go, and a killed control goes on.

The periods of target tracking are shortened by settings.
"""

import os
import signal
import threading
from datetime import UTC, datetime, timedelta

import pytest

from autoscaling_cases import activities, desired_count, names, wait_for_activities
from handlers import ECHO
from server import Server, wait_for

SHORT = {
    "CLARY_AUTOSCALING_PERIOD_S": "1",
    "CLARY_AUTOSCALING_HIGH_RESOLUTION_PERIOD_S": "1",
    "CLARY_AUTOSCALING_OUT_PERIODS": "1",
    "CLARY_AUTOSCALING_IN_PERIODS": "3",
    "CLARY_FLEET_MAX_WORKERS": "1",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("server"), **SHORT) as running:
        yield running


def register(server, name, minimum=1, maximum=4, **more):
    server.deploy(name, {"code/inference.py": ECHO})
    resource = names(name)
    scaling = server.client("application-autoscaling")
    scaling.register_scalable_target(**resource, MinCapacity=minimum, MaxCapacity=maximum, **more)
    return scaling, resource


def put_metric(server, name, value, metric="Load"):
    server.client("cloudwatch").put_metric_data(
        Namespace="Tests",
        MetricData=[
            {
                "MetricName": metric,
                "Dimensions": [{"Name": "EndpointName", "Value": name}],
                "Value": value,
                "StorageResolution": 1,
            }
        ],
    )


def track(scaling, resource, name, target=10.0, **more):
    return scaling.put_scaling_policy(
        **resource,
        PolicyName="track",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": target,
            "CustomizedMetricSpecification": {
                "MetricName": "Load",
                "Namespace": "Tests",
                "Dimensions": [{"Name": "EndpointName", "Value": name}],
                "Statistic": "Average",
            },
            "ScaleOutCooldown": 0,
            "ScaleInCooldown": 0,
            **more,
        },
    )


def step_policy(scaling, resource, name="step", adjustment=1, **more):
    return scaling.put_scaling_policy(
        **resource,
        PolicyName=name,
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "StepAdjustments": [
                {"MetricIntervalLowerBound": 0.0, "MetricIntervalUpperBound": 10.0,
                 "ScalingAdjustment": adjustment},
                {"MetricIntervalLowerBound": 10.0, "ScalingAdjustment": 2 * adjustment},
            ],
            "Cooldown": 0,
            **more,
        },
    )["PolicyARN"]  # fmt: skip


def alarm_for(server, name, action):
    server.client("cloudwatch").put_metric_alarm(
        AlarmName=name,
        Namespace="Tests",
        MetricName="Load",
        Dimensions=[{"Name": "EndpointName", "Value": name}],
        Statistic="Average",
        Period=10,
        EvaluationPeriods=1,
        Threshold=100.0,
        ComparisonOperator="GreaterThanThreshold",
        AlarmActions=[action],
    )


def test_target_tracking_adds_instances_and_removes_them_again(server):
    name = "tracked"
    scaling, resource = register(server, name)
    put = track(scaling, resource, name)
    alarms = server.client("cloudwatch").describe_alarms(
        AlarmNames=[alarm["AlarmName"] for alarm in put["Alarms"]]
    )["MetricAlarms"]
    high, low = sorted(alarms, key=lambda alarm: alarm["AlarmName"])
    assert (high["Threshold"], high["ComparisonOperator"]) == (10.0, "GreaterThanThreshold")
    assert (low["Threshold"], low["ComparisonOperator"]) == (9.0, "LessThanThreshold")
    assert (high["EvaluationPeriods"], low["EvaluationPeriods"]) == (1, 3)
    assert high["AlarmActions"] == low["AlarmActions"] == [put["PolicyARN"]]

    def load(total):
        """Put what each instance bears of a load, and tell how many there are."""
        count = desired_count(server, resource)
        put_metric(server, name, total / count)
        return count

    wait_for(lambda: load(25.0) == 3, timeout_s=30, what="three instances")
    wait_for(lambda: load(4.0) == 1, timeout_s=40, what="one instance")
    done = wait_for_activities(scaling, resource, 2)
    log = [(a["Description"], a["Cause"]) for a in reversed(done)]
    assert log[0] == (
        "Setting desired instance count to 3.",
        f"monitor alarm {high['AlarmName']} in state ALARM triggered policy track",
    )
    assert log[-1] == (
        "Setting desired instance count to 1.",
        f"monitor alarm {low['AlarmName']} in state ALARM triggered policy track",
    )


def test_steps_by_a_users_own_alarm_and_why_nothing_more_is_done(server):
    name = "stepped"
    scaling, resource = register(server, name, maximum=3)
    arn = step_policy(scaling, resource)
    alarm_for(server, name, arn)

    def load():
        put_metric(server, name, 115.0)
        return desired_count(server, resource) == 3

    wait_for(load, timeout_s=40, what="three instances")
    [policy] = scaling.describe_scaling_policies(
        ServiceNamespace="sagemaker", ResourceId=resource["ResourceId"]
    )["ScalingPolicies"]
    assert [alarm["AlarmName"] for alarm in policy["Alarms"]] == [name]

    def is_explained():
        put_metric(server, name, 115.0)
        found = activities(scaling, resource, IncludeNotScaledActivities=True)
        return any("NotScaledReasons" in activity for activity in found)

    wait_for(is_explained, timeout_s=40, what="the reason why nothing is done")
    newest, first = activities(scaling, resource, IncludeNotScaledActivities=True)
    assert newest["NotScaledReasons"] == [{"Code": "AlreadyAtMaxCapacity", "MaxCapacity": 3}]
    assert newest["StatusCode"] == "Failed"
    assert newest["Description"] == "Attempting to scale due to alarm triggered"
    cause = f"monitor alarm {name} in state ALARM triggered policy step"
    assert newest["Cause"] == first["Cause"] == cause
    assert activities(scaling, resource) == [first], "left out when not asked for"
    scaling.delete_scaling_policy(**resource, PolicyName="step")
    [alarm] = server.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert alarm["AlarmActions"] == [], "the alarm is the user's and stays"


def test_metrics_that_nobody_knows_scale_nothing(server):
    """Neither a policy that tracks one, nor one whose user's alarm watches one."""
    name = "unknown"
    scaling, resource = register(server, name, minimum=1)
    tracked = track(scaling, resource, name)["Alarms"]
    action = step_policy(scaling, resource)
    cloudwatch = server.client("cloudwatch")
    alarm_for(server, name, action)
    # Judged in the same passes, it tells that the others have been.
    cloudwatch.put_metric_alarm(
        AlarmName=f"{name}-judged",
        Namespace="Tests",
        MetricName="Load",
        Statistic="Average",
        Period=10,
        EvaluationPeriods=1,
        Threshold=100.0,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="notBreaching",
    )

    def states(*alarms):
        found = cloudwatch.describe_alarms(AlarmNames=list(alarms))["MetricAlarms"]
        return [alarm["StateValue"] for alarm in found]

    wait_for(lambda: states(f"{name}-judged") == ["OK"], timeout_s=20, what="a pass")
    watching = [name, *(alarm["AlarmName"] for alarm in tracked)]
    assert states(*watching) == ["INSUFFICIENT_DATA"] * 3
    assert activities(scaling, resource, IncludeNotScaledActivities=True) == []
    assert desired_count(server, resource) == 1


def test_suspended_scale_out_leaves_the_count_alone(server):
    name = "suspended"
    scaling, resource = register(server, name, SuspendedState={"DynamicScalingOutSuspended": True})
    track(scaling, resource, name)
    cloudwatch = server.client("cloudwatch")

    def is_on():
        put_metric(server, name, 25.0)
        [alarm] = cloudwatch.describe_alarms(
            AlarmNamePrefix=f"TargetTracking-{resource['ResourceId']}-AlarmHigh"
        )["MetricAlarms"]
        return alarm["StateValue"] == "ALARM"

    wait_for(is_on, timeout_s=30, what="the alarm")
    assert activities(scaling, resource, IncludeNotScaledActivities=True) == []
    scaling.register_scalable_target(
        **resource, SuspendedState={"DynamicScalingOutSuspended": False}
    )

    def is_scaled():
        put_metric(server, name, 25.0)
        return desired_count(server, resource) > 1

    wait_for(is_scaled, timeout_s=30, what="another instance once it is resumed")


def test_a_killed_control_brings_activities_to_their_end_and_runs_no_schedule_twice(server):
    name = "killed"
    scaling, resource = register(server, name)
    soon = datetime.now(UTC) + timedelta(seconds=2)
    scaling.put_scheduled_action(
        **resource,
        ScheduledActionName="up",
        Schedule=f"at({soon:%Y-%m-%dT%H:%M:%S})",
        ScalableTargetAction={"MinCapacity": 3},
    )
    wait_for(lambda: activities(scaling, resource), what="the schedule to begin")
    [control] = server.pids("clary-control")
    os.kill(control, signal.SIGKILL)
    wait_for(lambda: server.health() == 200, what="control to be back")
    client = server.client("application-autoscaling", retries={"total_max_attempts": 10})
    moved, bounds = wait_for_activities(client, resource, 2)
    assert moved["StatusCode"] == bounds["StatusCode"] == "Successful"
    assert desired_count(server, resource) == 3


def test_a_schedule_that_came_while_the_server_was_down_runs_once(tmp_path):
    with Server(tmp_path, **SHORT) as own:
        name = "asleep"
        scaling, resource = register(own, name)
        soon = datetime.now(UTC) + timedelta(seconds=2)
        scaling.put_scheduled_action(
            **resource,
            ScheduledActionName="up",
            Schedule=f"at({soon:%Y-%m-%dT%H:%M:%S})",
            ScalableTargetAction={"MinCapacity": 2},
        )
        own.stop()
        wait_for(lambda: datetime.now(UTC) > soon, what="the time of the schedule")
        own.start()
        moved, bounds = wait_for_activities(scaling, resource, 2)
        assert bounds["Cause"] == "scheduled action name up was triggered"
        assert moved["StatusCode"] == "Successful"
        assert bounds["StartTime"] > soon


def test_an_alarm_whose_policy_is_gone_says_so_in_its_history(server):
    cloudwatch = server.client("cloudwatch")
    arn = "arn:aws:autoscaling:us-east-1:123456789012:somethingElse"
    alarm_for(server, "no-policy", arn)
    cloudwatch.set_alarm_state(AlarmName="no-policy", StateValue="ALARM", StateReason="test")

    def said():
        items = cloudwatch.describe_alarm_history(AlarmName="no-policy", HistoryItemType="Action")[
            "AlarmHistoryItems"
        ]
        return any("is no scaling policy" in item["HistoryData"] for item in items)

    wait_for(said, what="the history to say so")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_real_load_adds_instances_and_its_end_removes_them(tmp_path):
    """Calls per instance in 10 s, held near 100: 300 need three instances, 20 need one."""
    settings = {
        **SHORT,
        "CLARY_AUTOSCALING_PERIOD_S": "10",
        "CLARY_AUTOSCALING_OUT_PERIODS": "1",
        "CLARY_AUTOSCALING_IN_PERIODS": "2",
    }
    with Server(tmp_path, **settings) as own:
        scaling, resource = register(own, "loaded")
        scaling.put_scaling_policy(
            **resource,
            PolicyName="follow",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={
                "TargetValue": 100.0,
                "PredefinedMetricSpecification": {
                    "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
                },
                "ScaleOutCooldown": 0,
                "ScaleInCooldown": 0,
            },
        )
        per_s = 28.0
        stopping, failures, calls = threading.Event(), [], []

        def send():
            while not stopping.wait(1 / per_s):
                try:
                    own.invoke("loaded", b"[1]")
                    calls.append(1)
                except Exception as error:
                    failures.append(error)

        client = threading.Thread(target=send)
        client.start()
        try:
            wait_for(lambda: desired_count(own, resource) >= 3, timeout_s=90, what="more instances")
            per_s = 2.0
            wait_for(lambda: desired_count(own, resource) == 1, timeout_s=90, what="one instance")
        finally:
            stopping.set()
            client.join()
        for activity in reversed(wait_for_activities(scaling, resource, 2)):
            took_s = (activity["EndTime"] - activity["StartTime"]).total_seconds()
            print(
                f"{activity['StartTime']:%H:%M:%S} {took_s:4.1f} s {activity['StatusCode']}: "
                f"{activity['Description']} {activity['Cause']}"
            )
        assert failures == []
        assert len(calls) > 200
