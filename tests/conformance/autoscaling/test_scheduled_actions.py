"""PutScheduledAction and its like, by boto3; and that they run."""

from datetime import UTC, datetime, timedelta

import pytest

from autoscaling_cases import desired_count, refused, wait_for_activities
from server import wait_for


def actions(scaling, target, **more):
    return scaling.describe_scheduled_actions(
        ServiceNamespace="sagemaker", ResourceId=target["ResourceId"], **more
    )["ScheduledActions"]


def put(scaling, target, **request):
    return scaling.put_scheduled_action(
        **{
            **target,
            "ScheduledActionName": "morning",
            "Schedule": "cron(0 8 ? * MON-FRI *)",
            "ScalableTargetAction": {"MinCapacity": 2, "MaxCapacity": 4},
            **request,
        }
    )


def test_an_action_is_put_changed_and_deleted(scaling, target):
    start, end = datetime(2030, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)
    put(scaling, target, Timezone="Europe/Berlin", StartTime=start, EndTime=end)
    [described] = actions(scaling, target)
    assert described.pop("CreationTime") is not None
    arn = described.pop("ScheduledActionARN")
    assert arn.startswith("arn:aws:autoscaling:us-east-1:123456789012:scheduledAction:")
    assert arn.endswith(f":resource/sagemaker/{target['ResourceId']}:scheduledActionName/morning")
    assert described == {
        **target,
        "ScheduledActionName": "morning",
        "Schedule": "cron(0 8 ? * MON-FRI *)",
        "Timezone": "Europe/Berlin",
        "StartTime": start,
        "EndTime": end,
        "ScalableTargetAction": {"MinCapacity": 2, "MaxCapacity": 4},
    }
    scaling.put_scheduled_action(
        **target, ScheduledActionName="morning", Schedule="cron(0 9 ? * MON-FRI *)"
    )
    [changed] = actions(scaling, target, ScheduledActionNames=["morning"])
    assert changed["Schedule"] == "cron(0 9 ? * MON-FRI *)"
    assert changed["Timezone"] == "Europe/Berlin"
    assert changed["ScalableTargetAction"] == {"MinCapacity": 2, "MaxCapacity": 4}
    assert changed["ScheduledActionARN"] == arn
    assert "StartTime" not in changed, "times that are not sent again are deleted"
    assert "EndTime" not in changed
    scaling.delete_scheduled_action(**target, ScheduledActionName="morning")
    assert actions(scaling, target) == []
    code, message = refused(
        lambda: scaling.delete_scheduled_action(**target, ScheduledActionName="morning")
    )
    assert code == "ObjectNotFoundException"
    assert message.startswith("No scheduled action found for service namespace: sagemaker, ")


def test_an_action_that_is_due_sets_bounds_and_moves_capacity(server, scaling, target):
    soon = datetime.now(UTC) + timedelta(seconds=2)
    put(scaling, target, Schedule=f"at({soon:%Y-%m-%dT%H:%M:%S})")
    moved, bounds = wait_for_activities(scaling, target, 2)
    assert bounds["Description"] == "Setting min capacity to 2 and max capacity to 4"
    assert bounds["Cause"] == "scheduled action name morning was triggered"
    assert bounds["StatusCode"] == "Successful"
    assert bounds["StatusMessage"] == "Successfully set min capacity to 2 and max capacity to 4"
    assert moved["Description"] == "Setting desired instance count to 2."
    assert moved["Cause"] == "minimum capacity was set to 2"
    assert desired_count(server, target) == 2
    [described] = scaling.describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[target["ResourceId"]]
    )["ScalableTargets"]
    assert (described["MinCapacity"], described["MaxCapacity"]) == (2, 4)


def test_bounds_that_contradict_those_of_the_target_fail_the_activity(scaling, target):
    put(
        scaling,
        target,
        Schedule="cron(0/1 * * * * ? *)",
        ScalableTargetAction={"MinCapacity": 9},
    )
    [activity, *_] = wait_for_activities(scaling, target, 1)
    scaling.delete_scheduled_action(**target, ScheduledActionName="morning")
    assert activity["StatusCode"] == "Failed"
    assert activity["StatusMessage"] == (
        "Failed to set min capacity to 9. Reason: Minimum capacity 9 is greater than maximum "
        "capacity 4."
    )


def test_what_is_suspended_is_not_made_up_for(scaling, target):
    scaling.register_scalable_target(**target, SuspendedState={"ScheduledScalingSuspended": True})
    put(scaling, target, Schedule="cron(0/1 * * * * ? *)")
    deadline = datetime.now(UTC) + timedelta(seconds=2)
    wait_for(lambda: datetime.now(UTC) > deadline, what="two occurrences to pass")
    assert not scaling.describe_scaling_activities(
        ServiceNamespace="sagemaker", ResourceId=target["ResourceId"]
    )["ScalingActivities"]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"Schedule": "cron(0 8 * * * *)"}, "exactly one of day-of-month and day-of-week"),
        ({"Schedule": "cron(0 8 31 2 ? *)"}, "it never fires"),
        ({"Schedule": "cron(0 8 1 1 ? 2001)"}, "it never fires"),
        ({"Schedule": "at(2001-01-01T00:00:00)"}, "it never fires"),
        ({"Schedule": "rate(1 hours)"}, "singular with 1"),
        ({"Schedule": "now"}, "Invalid Schedule Expression now"),
        ({"Timezone": "Mars/Olympus"}, "Invalid timezone: Mars/Olympus"),
        ({"ScalableTargetAction": {}}, "At least one of minimum capacity and maximum capacity"),
        (
            {"ScalableTargetAction": {"MinCapacity": 3, "MaxCapacity": 2}},
            "Minimum capacity cannot be greater than maximum capacity",
        ),
        (
            {"StartTime": datetime(2031, 1, 1, tzinfo=UTC),
             "EndTime": datetime(2030, 1, 1, tzinfo=UTC)},
            "StartTime must be before EndTime",
        ),
        ({"EndTime": datetime(2001, 1, 1, tzinfo=UTC)}, "EndTime must be in the future"),
        (
            {"Schedule": "cron(0 8 1 1 ? 2040)", "EndTime": datetime(2035, 1, 1, tzinfo=UTC)},
            "never fires between StartTime and EndTime",
        ),
        ({"ScheduledActionName": "a:b"}, "failed to satisfy constraint"),
    ],
)  # fmt: skip
def test_what_can_never_run_is_refused(scaling, target, request_, words):
    code, message = refused(lambda: put(scaling, target, **request_))
    assert code == "ValidationException"
    assert words in message
    assert actions(scaling, target) == []


def test_an_action_needs_a_target_and_a_new_one_a_schedule(scaling, resource):
    code, message = refused(lambda: put(scaling, resource))
    assert code == "ObjectNotFoundException"
    assert message.startswith("No scalable target registered for service namespace: sagemaker, ")
    scaling.register_scalable_target(**resource, MinCapacity=1, MaxCapacity=2)
    _, message = refused(
        lambda: scaling.put_scheduled_action(**resource, ScheduledActionName="none")
    )
    assert message == "Schedule must be specified when a scheduled action is created."
