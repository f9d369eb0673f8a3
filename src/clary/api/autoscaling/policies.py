"""Scaling policies: Put, Delete, Describe."""

from collections.abc import Sequence
from typing import Any

from clary.api.autoscaling.requests import (
    concerns,
    described,
    page_limit,
    page_reply,
    page_start,
    target_name,
)
from clary.api.operations import Call, Reply, Request, operation
from clary.errors import InvalidRequest
from clary.resources.scaling import ScalingPolicy, policy_arn
from clary.resources.scaling_policies import STEP, TARGET_TRACKING, TargetTracking, parse_policy
from clary.resources.tracking_alarms import name_alarms
from clary.store.scaling_policies import no_policy
from clary.store.scaling_table import ScalingFilter

_SERVICE = "application-autoscaling"
_CONFIGURATIONS = {
    TARGET_TRACKING: "TargetTrackingScalingPolicyConfiguration",
    STEP: "StepScalingPolicyConfiguration",
}


@operation(_SERVICE, "PutScalingPolicy")
async def put_scaling_policy(call: Call, request: Request) -> Reply:
    target = target_name(request)
    name = request["PolicyName"]
    await call.store.scalable_targets.get(target)
    before = await call.store.scaling_policies.find(target, name)
    policy_type = _policy_type(request, before)
    configuration = _configuration(request, policy_type, before)
    rule = parse_policy(policy_type, configuration, target)

    def alarms() -> tuple[str, ...]:
        if not isinstance(rule, TargetTracking):
            return ()
        return name_alarms(target, may_scale_in=rule.may_scale_in)

    policy = await call.store.scaling_policies.put(
        target, name, policy_type=policy_type, configuration=configuration, alarms=alarms
    )
    await call.backend.policy_alarms.put([policy])
    if before is not None:
        await call.backend.policy_alarms.remove_named(set(before.alarms) - set(policy.alarms))
    [alarms_of_it] = await call.backend.policy_alarms.find([policy])
    return {
        "PolicyARN": policy_arn(call.namespace, policy),
        "Alarms": _serialize_alarms(alarms_of_it),
    }


@operation(_SERVICE, "DeleteScalingPolicy")
async def delete_scaling_policy(call: Call, request: Request) -> Reply:
    target, name = target_name(request), request["PolicyName"]
    policy = await call.store.scaling_policies.find(target, name)
    if policy is None:
        raise no_policy(target, name)
    await call.backend.policy_alarms.remove(policy)
    await call.store.scaling_policies.delete(target, name)
    return {}


@operation(_SERVICE, "DescribeScalingPolicies")
async def describe_scaling_policies(call: Call, request: Request) -> Reply:
    if not concerns(request):
        return {"ScalingPolicies": []}
    resource_id = request.get("ResourceId")
    page = await call.store.scaling_policies.list(
        ScalingFilter(
            resource_ids=None if resource_id is None else [resource_id],
            dimension=request.get("ScalableDimension"),
            names=request.get("PolicyNames") or None,
            limit=page_limit(request),
            after=page_start(request),
        )
    )
    alarms = await call.backend.policy_alarms.find(page.items)
    items = [_serialize(call, *pair) for pair in zip(page.items, alarms, strict=True)]
    return page_reply("ScalingPolicies", items, page, request)


def _policy_type(request: Request, before: ScalingPolicy | None) -> str:
    policy_type = request.get("PolicyType") or (before.type if before else None)
    if policy_type is None:
        raise InvalidRequest("PolicyType must be specified when a scaling policy is created.")
    if policy_type not in _CONFIGURATIONS:
        raise InvalidRequest(
            f"{policy_type} is not supported for this service namespace, resource type or "
            "scalable dimension."
        )
    return str(policy_type)


def _configuration(
    request: Request, policy_type: str, before: ScalingPolicy | None
) -> dict[str, Any]:
    """Return the configuration that goes with a type; what is not sent again stays."""
    wanted = _CONFIGURATIONS[policy_type]
    others = [
        name
        for name in (*_CONFIGURATIONS.values(), "PredictiveScalingPolicyConfiguration")
        if name != wanted and request.get(name)
    ]
    if others:
        raise InvalidRequest(f"{others[0]} cannot be specified for policy type {policy_type}.")
    if wanted in request:
        return dict(request[wanted])
    if before is not None and before.type == policy_type:
        return dict(before.configuration)
    raise InvalidRequest(f"{wanted} must be specified for policy type {policy_type}.")


def _serialize(
    call: Call, policy: ScalingPolicy, alarms: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    return {
        "PolicyARN": policy_arn(call.namespace, policy),
        "PolicyName": policy.name,
        **described(policy.target),
        "PolicyType": policy.type,
        _CONFIGURATIONS[policy.type]: policy.configuration,
        "Alarms": _serialize_alarms(alarms),
        "CreationTime": policy.created_at,
    }


def _serialize_alarms(alarms: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"AlarmName": name, "AlarmARN": arn} for name, arn in alarms]
