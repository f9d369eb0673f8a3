"""RegisterScalableTarget and its like, by boto3."""

import pytest

from autoscaling_cases import activities, desired_count, names, refused, wait_for_activities
from server import wait_for


def test_a_target_is_registered_changed_and_deregistered(scaling, resource):
    arn = scaling.register_scalable_target(
        **resource, MinCapacity=1, MaxCapacity=4, Tags={"team": "ml"}
    )["ScalableTargetARN"]
    assert arn.startswith("arn:aws:application-autoscaling:us-east-1:123456789012:scalable-target/")
    [described] = scaling.describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[resource["ResourceId"]]
    )["ScalableTargets"]
    assert described.pop("CreationTime") is not None
    assert described == {
        **resource,
        "MinCapacity": 1,
        "MaxCapacity": 4,
        "RoleARN": "arn:aws:iam::123456789012:role/aws-service-role/sagemaker.application-"
        "autoscaling.amazonaws.com/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint",
        "SuspendedState": {
            "DynamicScalingInSuspended": False,
            "DynamicScalingOutSuspended": False,
            "ScheduledScalingSuspended": False,
        },
        "ScalableTargetARN": arn,
    }
    again = scaling.register_scalable_target(
        **resource, MaxCapacity=6, SuspendedState={"DynamicScalingInSuspended": True}
    )
    assert again["ScalableTargetARN"] == arn
    [changed] = scaling.describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[resource["ResourceId"]]
    )["ScalableTargets"]
    assert (changed["MinCapacity"], changed["MaxCapacity"]) == (1, 6)
    assert changed["SuspendedState"]["DynamicScalingInSuspended"] is True
    assert changed["SuspendedState"]["DynamicScalingOutSuspended"] is False
    assert scaling.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"team": "ml"}
    scaling.deregister_scalable_target(**resource)
    assert not scaling.describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[resource["ResourceId"]]
    )["ScalableTargets"]
    code, message = refused(lambda: scaling.deregister_scalable_target(**resource))
    assert code == "ObjectNotFoundException"
    assert message == (
        f"No scalable target found for service namespace: sagemaker, resource ID: "
        f"{resource['ResourceId']}, scalable dimension: sagemaker:variant:DesiredInstanceCount"
    )


def test_capacity_outside_new_bounds_is_moved_at_once(server, scaling, resource):
    scaling.register_scalable_target(**resource, MinCapacity=2, MaxCapacity=4)
    [activity] = wait_for_activities(scaling, resource, 1)
    assert activity["Description"] == "Setting desired instance count to 2."
    assert activity["Cause"] == "minimum capacity was set to 2"
    assert activity["StatusCode"] == "Successful"
    assert activity["StatusMessage"] == (
        "Successfully set desired instance count to 2. Change successfully fulfilled by sagemaker."
    )
    assert activity["EndTime"] > activity["StartTime"]
    assert desired_count(server, resource) == 2
    scaling.register_scalable_target(**resource, MinCapacity=1, MaxCapacity=1)
    newest, _ = wait_for_activities(scaling, resource, 2)
    assert newest["Cause"] == "maximum capacity was set to 1"
    assert desired_count(server, resource) == 1


def test_a_quota_fails_the_activity_in_awss_words(server, scaling, make_endpoint):
    resource = names(make_endpoint(InstanceType="ml.c5.large"))
    scaling.register_scalable_target(**resource, MinCapacity=3, MaxCapacity=4)
    [activity] = wait_for_activities(scaling, resource, 1)
    assert activity["StatusCode"] == "Failed"
    assert activity["StatusMessage"].startswith(
        "Failed to set desired instance count to 3. Reason: The account-level service limit "
    )
    assert (
        "(Service: AmazonSageMaker; Status Code: 400; Error Code: ResourceLimitExceeded; "
        "Request ID: "
    ) in activity["StatusMessage"]
    assert desired_count(server, resource) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"MinCapacity": 3, "MaxCapacity": 2}, "Minimum capacity cannot be greater than maximum"),
        ({"MinCapacity": -1, "MaxCapacity": 2}, "must be 0 or more"),
        ({"MinCapacity": 1}, "must be specified to register"),
        ({"MinCapacity": 0, "MaxCapacity": 2}, "Minimum capacity must be 1 or more"),
        ({"ResourceId": "endpoint/nobody/variant/AllTraffic"}, "endpoint not found: nobody"),
        ({"ResourceId": "endpoint/nobody"}, "Unsupported service namespace, resource type or"),
        ({"ScalableDimension": "ecs:service:DesiredCount"}, "Unsupported service namespace"),
        ({"ScalableDimension": "sagemaker:inference-component:DesiredCopyCount"}, "Unsupported"),
        ({"ScalableDimension": "sagemaker:variant:Nonsense"}, "enum value set"),
        (
            {"ScalableDimension": "sagemaker:variant:DesiredProvisionedConcurrency"},
            "is not serverless",
        ),
    ],
)
def test_what_cannot_be_a_target_is_refused(scaling, resource, change, words):
    request = {**resource, "MinCapacity": 1, "MaxCapacity": 4}
    if "MinCapacity" in change and "MaxCapacity" not in change:
        del request["MaxCapacity"]
    code, message = refused(lambda: scaling.register_scalable_target(**{**request, **change}))
    assert code == "ValidationException"
    assert words in message


def test_unknown_variants_and_burstable_types_are_refused(scaling, make_endpoint):
    resource = names(make_endpoint(InstanceType="ml.t2.medium"))
    bounds = {"MinCapacity": 1, "MaxCapacity": 4}
    _, message = refused(lambda: scaling.register_scalable_target(**resource, **bounds))
    assert "ml.t2.medium is burstable" in message
    other = {**resource, "ResourceId": resource["ResourceId"].replace("AllTraffic", "other")}
    _, message = refused(lambda: scaling.register_scalable_target(**other, **bounds))
    assert "variant not found: other" in message


def test_tags_are_set_removed_and_listed(scaling, resource):
    arn = scaling.register_scalable_target(**resource, MinCapacity=1, MaxCapacity=4)[
        "ScalableTargetARN"
    ]
    assert scaling.list_tags_for_resource(ResourceARN=arn)["Tags"] == {}
    scaling.tag_resource(ResourceARN=arn, Tags={"a": "1", "b": "2"})
    scaling.tag_resource(ResourceARN=arn, Tags={"a": "3"})
    scaling.untag_resource(ResourceARN=arn, TagKeys=["b", "never there"])
    assert scaling.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"a": "3"}
    many = {f"key-{number}": "" for number in range(51)}
    code, _ = refused(lambda: scaling.tag_resource(ResourceARN=arn, Tags=many))
    assert code == "TooManyTagsException"
    other = arn[:-4] + "0000"
    for call in (
        lambda: scaling.list_tags_for_resource(ResourceARN=other),
        lambda: scaling.tag_resource(ResourceARN=other, Tags={"a": "1"}),
        lambda: scaling.untag_resource(ResourceARN=other, TagKeys=["a"]),
    ):
        assert refused(call)[0] == "ResourceNotFoundException"


def test_other_services_have_no_targets(scaling):
    asked = {"ServiceNamespace": "ecs"}
    assert scaling.describe_scalable_targets(**asked)["ScalableTargets"] == []
    assert scaling.describe_scaling_policies(**asked)["ScalingPolicies"] == []
    assert scaling.describe_scheduled_actions(**asked)["ScheduledActions"] == []
    assert scaling.describe_scaling_activities(**asked)["ScalingActivities"] == []
    code, _ = refused(
        lambda: scaling.describe_scalable_targets(
            ServiceNamespace="ecs", ScalableDimension="sagemaker:variant:DesiredInstanceCount"
        )
    )
    assert code == "ValidationException"


def test_a_deleted_endpoint_takes_its_target_along(server, scaling, target):
    scaling.put_scheduled_action(
        **target,
        ScheduledActionName="nightly",
        Schedule="cron(0 0 * * ? *)",
        ScalableTargetAction={"MaxCapacity": 2},
    )
    server.delete_endpoint(target["ResourceId"].split("/")[1])

    def gone():
        return not scaling.describe_scalable_targets(
            ServiceNamespace="sagemaker", ResourceIds=[target["ResourceId"]]
        )["ScalableTargets"]

    wait_for(gone, what="the target to be deregistered")
    assert not scaling.describe_scheduled_actions(
        ServiceNamespace="sagemaker", ResourceId=target["ResourceId"]
    )["ScheduledActions"]


def test_pages(server, scaling, make_endpoint):
    resource = names(make_endpoint())
    for number in range(1, 4):
        scaling.register_scalable_target(**resource, MinCapacity=1, MaxCapacity=number)
    for number in range(5):
        scaling.put_scheduled_action(
            **resource,
            ScheduledActionName=f"action-{number}",
            Schedule="cron(0 0 * * ? *)",
            ScalableTargetAction={"MaxCapacity": 2},
        )
    paginator = scaling.get_paginator("describe_scheduled_actions")
    pages = list(
        paginator.paginate(
            ServiceNamespace="sagemaker",
            ResourceId=resource["ResourceId"],
            PaginationConfig={"PageSize": 2},
        )
    )
    assert [len(page["ScheduledActions"]) for page in pages] == [2, 2, 1]
    found = [action["ScheduledActionName"] for page in pages for action in page["ScheduledActions"]]
    assert found == [f"action-{number}" for number in range(5)]
    token = pages[0]["NextToken"]
    for other in ({"NextToken": "nonsense"}, {"NextToken": token, "ResourceId": "another"}):
        code, _ = refused(
            lambda other=other: scaling.describe_scheduled_actions(
                **{"ServiceNamespace": "sagemaker", **other}
            )
        )
        assert code == "InvalidNextTokenException"
    for size, words in ((0, "greater than or equal to 1"), (51, "less than or equal to 50")):
        _, message = refused(
            lambda size=size: scaling.describe_scalable_targets(
                ServiceNamespace="sagemaker", MaxResults=size
            )
        )
        assert words in message


def test_activities_come_newest_first_in_pages(scaling, resource):
    for bounds in ((2, 2), (1, 1), (2, 3)):
        scaling.register_scalable_target(**resource, MinCapacity=bounds[0], MaxCapacity=bounds[1])
        count = len(activities(scaling, resource))
        wait_for_activities(scaling, resource, count)
    pages = list(
        scaling.get_paginator("describe_scaling_activities").paginate(
            ServiceNamespace="sagemaker",
            ResourceId=resource["ResourceId"],
            PaginationConfig={"PageSize": 2},
        )
    )
    causes = [a["Cause"] for page in pages for a in page["ScalingActivities"]]
    assert causes == [
        "minimum capacity was set to 2",
        "maximum capacity was set to 1",
        "minimum capacity was set to 2",
    ]
    assert len(pages) == 2
