"""Scaling activities: Describe."""

from typing import Any

from clary.api.autoscaling.requests import (
    concerns,
    described,
    page_limit,
    page_reply,
    page_start,
    present,
)
from clary.api.operations import Call, Reply, Request, operation
from clary.resources.scaling import ScalingActivity
from clary.store.scaling_activities import ActivityFilter


@operation("application-autoscaling", "DescribeScalingActivities")
async def describe_scaling_activities(call: Call, request: Request) -> Reply:
    if not concerns(request):
        return {"ScalingActivities": []}
    page = await call.store.scaling_activities.list(
        ActivityFilter(
            resource_id=request.get("ResourceId"),
            dimension=request.get("ScalableDimension"),
            includes_not_scaled=request.get("IncludeNotScaledActivities", False),
            limit=page_limit(request),
            after=page_start(request),
        )
    )
    items = [_serialize(activity) for activity in page.items]
    return page_reply("ScalingActivities", items, page, request)


def _serialize(activity: ScalingActivity) -> dict[str, Any]:
    return present(
        {
            "ActivityId": activity.id,
            **described(activity.target),
            "Description": activity.description,
            "Cause": activity.cause,
            "StartTime": activity.started_at,
            "EndTime": activity.ended_at,
            "StatusCode": activity.status,
            "StatusMessage": activity.status_message,
            "NotScaledReasons": list(activity.not_scaled) or None,
        }
    )
