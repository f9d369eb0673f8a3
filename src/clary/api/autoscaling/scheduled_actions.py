"""Scheduled actions: Put, Delete, Describe."""

from typing import Any

from clary.api.autoscaling.requests import (
    concerns,
    described,
    page_limit,
    page_reply,
    page_start,
    present,
    target_name,
)
from clary.api.operations import Call, Reply, Request, operation
from clary.errors import InvalidRequest
from clary.resources.scaling import ScheduledAction, TargetName, scheduled_action_arn
from clary.resources.schedule import next_time, parse_schedule
from clary.store.scaling_table import ScalingFilter, check_bounds

_SERVICE = "application-autoscaling"


@operation(_SERVICE, "PutScheduledAction")
async def put_scheduled_action(call: Call, request: Request) -> Reply:
    target = target_name(request)

    def change(before: ScheduledAction | None) -> ScheduledAction:
        return _changed(call, target, request, before)

    await call.store.scheduled_actions.put(target, request["ScheduledActionName"], change)
    return {}


@operation(_SERVICE, "DeleteScheduledAction")
async def delete_scheduled_action(call: Call, request: Request) -> Reply:
    await call.store.scheduled_actions.delete(target_name(request), request["ScheduledActionName"])
    return {}


@operation(_SERVICE, "DescribeScheduledActions")
async def describe_scheduled_actions(call: Call, request: Request) -> Reply:
    if not concerns(request):
        return {"ScheduledActions": []}
    resource_id = request.get("ResourceId")
    page = await call.store.scheduled_actions.list(
        ScalingFilter(
            resource_ids=None if resource_id is None else [resource_id],
            dimension=request.get("ScalableDimension"),
            names=request.get("ScheduledActionNames") or None,
            limit=page_limit(request),
            after=page_start(request),
        )
    )
    items = [_serialize(call, action) for action in page.items]
    return page_reply("ScheduledActions", items, page, request)


def _changed(
    call: Call, target: TargetName, request: Request, before: ScheduledAction | None
) -> ScheduledAction:
    """Return the action as it shall be: what is not sent stays, but for start and end."""
    now = call.backend.clock.now()
    schedule = request.get("Schedule") or (before.schedule if before else None)
    if schedule is None:
        raise InvalidRequest("Schedule must be specified when a scheduled action is created.")
    timezone = request.get("Timezone") or (before.timezone if before else None)
    action = request.get("ScalableTargetAction")
    if action is not None:
        minimum, maximum = action.get("MinCapacity"), action.get("MaxCapacity")
    else:
        minimum = before.min_capacity if before else None
        maximum = before.max_capacity if before else None
    if minimum is None and maximum is None:
        raise InvalidRequest(
            "At least one of minimum capacity and maximum capacity should be provided"
        )
    check_bounds(minimum, maximum)
    starts_at, ends_at = request.get("StartTime"), request.get("EndTime")
    if starts_at is not None and ends_at is not None and starts_at >= ends_at:
        raise InvalidRequest("StartTime must be before EndTime.")
    if ends_at is not None and ends_at <= now:
        raise InvalidRequest("EndTime must be in the future.")
    created_at = before.created_at if before else now
    next_at = next_time(
        parse_schedule(schedule, timezone),
        now,
        created_at=created_at,
        starts_at=starts_at,
        ends_at=ends_at,
    )
    if next_at is None:
        raise InvalidRequest(
            f"Invalid Schedule Expression {schedule}: it never fires"
            + (" between StartTime and EndTime." if starts_at or ends_at else " from now on.")
        )
    return ScheduledAction(
        id=before.id if before else "",
        target=target,
        target_id=before.target_id if before else "",
        name=request["ScheduledActionName"],
        schedule=schedule,
        timezone=timezone,
        starts_at=starts_at,
        ends_at=ends_at,
        min_capacity=minimum,
        max_capacity=maximum,
        created_at=created_at,
        next_at=next_at,
    )


def _serialize(call: Call, action: ScheduledAction) -> dict[str, Any]:
    return present(
        {
            "ScheduledActionName": action.name,
            "ScheduledActionARN": scheduled_action_arn(call.namespace, action),
            **described(action.target),
            "Schedule": action.schedule,
            "Timezone": action.timezone,
            "StartTime": action.starts_at,
            "EndTime": action.ends_at,
            "ScalableTargetAction": present(
                {"MinCapacity": action.min_capacity, "MaxCapacity": action.max_capacity}
            ),
            "CreationTime": action.created_at,
        }
    )
