"""Scalable targets: Register, Deregister, Describe, and their tags."""

import re

from clary.api.autoscaling.requests import (
    concerns,
    described,
    page_limit,
    page_reply,
    page_start,
    scalable_resource,
    target_name,
)
from clary.api.operations import Call, Reply, Request, operation
from clary.errors import NotFound
from clary.resources.names import partition_of
from clary.resources.scaling import ScalableTarget, ScalingActivity, target_arn
from clary.resources.scaling_activities import into_bounds
from clary.store.scaling_table import ScalingFilter

_SERVICE = "application-autoscaling"
_ARN = re.compile(r"arn:[^:]+:application-autoscaling:[^:]+:\d+:scalable-target/(?P<id>.+)\Z")
_SUSPENDED = {
    "DynamicScalingInSuspended": "scale_in",
    "DynamicScalingOutSuspended": "scale_out",
    "ScheduledScalingSuspended": "schedules",
}


@operation(_SERVICE, "RegisterScalableTarget")
async def register_scalable_target(call: Call, request: Request) -> Reply:
    name = target_name(request)
    resource = scalable_resource(call, name)
    minimum = request.get("MinCapacity")
    capacity = await resource.check(name.resource_id, minimum)
    now = call.backend.clock.now()

    def enforce(target: ScalableTarget) -> ScalingActivity | None:
        # Bounds act when they are set, also on what policies may not touch meanwhile.
        return into_bounds(target, capacity.desired, now) if capacity.is_active else None

    suspended = request.get("SuspendedState", {})
    target = await call.store.scalable_targets.register(
        name,
        role_arn=request.get("RoleARN", ""),
        min_capacity=minimum,
        max_capacity=request.get("MaxCapacity"),
        suspended={own: suspended[aws] for aws, own in _SUSPENDED.items() if aws in suspended},
        tags=request.get("Tags"),
        enforce=enforce,
    )
    return {"ScalableTargetARN": target_arn(call.namespace, target.id)}


@operation(_SERVICE, "DeregisterScalableTarget")
async def deregister_scalable_target(call: Call, request: Request) -> Reply:
    name = target_name(request)
    # Alarms go first: a policy without alarms is put right again, an alarm without a policy is not.
    for policy in await call.store.scaling_policies.of_target(name):
        await call.backend.policy_alarms.remove(policy)
    await call.store.scalable_targets.deregister(name)
    return {}


@operation(_SERVICE, "DescribeScalableTargets")
async def describe_scalable_targets(call: Call, request: Request) -> Reply:
    if not concerns(request):
        return {"ScalableTargets": []}
    page = await call.store.scalable_targets.list(
        ScalingFilter(
            resource_ids=request.get("ResourceIds") or None,
            dimension=request.get("ScalableDimension"),
            limit=page_limit(request),
            after=page_start(request),
        )
    )
    items = [
        {
            **described(target.name),
            "MinCapacity": target.min_capacity,
            "MaxCapacity": target.max_capacity,
            "RoleARN": target.role_arn or _service_linked_role(call),
            "CreationTime": target.created_at,
            "SuspendedState": {
                aws: getattr(target.suspended, own) for aws, own in _SUSPENDED.items()
            },
            "ScalableTargetARN": target_arn(call.namespace, target.id),
        }
        for target in page.items
    ]
    return page_reply("ScalableTargets", items, page, request)


@operation(_SERVICE, "ListTagsForResource")
async def list_tags_for_resource(call: Call, request: Request) -> Reply:
    return {"Tags": await call.store.scalable_targets.tags(_target_id(request))}


@operation(_SERVICE, "TagResource")
async def tag_resource(call: Call, request: Request) -> Reply:
    await call.store.scalable_targets.change_tags(_target_id(request), request["Tags"])
    return {}


@operation(_SERVICE, "UntagResource")
async def untag_resource(call: Call, request: Request) -> Reply:
    await call.store.scalable_targets.change_tags(_target_id(request), {}, request["TagKeys"])
    return {}


def _target_id(request: Request) -> str:
    match = _ARN.match(request["ResourceARN"])
    if match is None:
        raise NotFound(f"The specified resource doesn't exist: {request['ResourceARN']}")
    return match["id"]


def _service_linked_role(call: Call) -> str:
    namespace = call.namespace
    return (
        f"arn:{partition_of(namespace.region)}:iam::{namespace.account}:role/aws-service-role/"
        "sagemaker.application-autoscaling.amazonaws.com/"
        "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
    )
