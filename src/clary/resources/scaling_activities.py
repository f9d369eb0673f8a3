"""The life of a scaling activity, in AWS's words (autoscaling-metrics.md 5).

Pure: what becomes of an activity, and what it says. An activity about capacity is first Pending,
which is the durable intent; InProgress once the change was asked for; and then one of the ends.
"""

import uuid
from dataclasses import replace
from datetime import datetime

from clary.resources.scaling import (
    DIMENSIONS,
    ActivityStatus,
    ScalableTarget,
    ScalingActivity,
)


def setting_capacity(
    target: ScalableTarget,
    capacity: int,
    *,
    previous: int,
    cause: str,
    now: datetime,
    by_policy: bool = False,
) -> ScalingActivity:
    """Return the intent to move a target's number."""
    return ScalingActivity(
        id=str(uuid.uuid4()),
        target=target.name,
        target_id=target.id,
        description=f"Setting {_noun(target)} to {capacity}.",
        cause=cause,
        status=ActivityStatus.PENDING,
        started_at=now,
        capacity=capacity,
        previous=previous,
        by_policy=by_policy,
    )


def into_bounds(target: ScalableTarget, capacity: int, now: datetime) -> ScalingActivity | None:
    """Return the intent to move a number into its bounds; None: it is there."""
    if capacity < target.min_capacity:
        bound, cause = target.min_capacity, f"minimum capacity was set to {target.min_capacity}"
    elif capacity > target.max_capacity:
        bound, cause = target.max_capacity, f"maximum capacity was set to {target.max_capacity}"
    else:
        return None
    return setting_capacity(target, bound, previous=capacity, cause=cause, now=now)


def alarm_cause(alarm: str, state: str, policy: str) -> str:
    """Return the cause of what a policy does."""
    return f"monitor alarm {alarm} in state {state} triggered policy {policy}"


def in_progress(activity: ScalingActivity) -> ScalingActivity:
    """Return the activity once its change was asked for."""
    return replace(
        activity,
        status=ActivityStatus.IN_PROGRESS,
        status_message=f"{_set(activity)} Waiting for change to be fulfilled by sagemaker.",
    )


def fulfilled(activity: ScalingActivity, now: datetime) -> ScalingActivity:
    """Return the activity once the change is made."""
    return replace(
        activity,
        status=ActivityStatus.SUCCESSFUL,
        status_message=f"{_set(activity)} Change successfully fulfilled by sagemaker.",
        ended_at=now,
    )


def failed(
    activity: ScalingActivity, reason: str, now: datetime, *, code: str | None = None
) -> ScalingActivity:
    """Return the activity that could not be done.

    Args:
        activity: It.
        reason: Why, for people.
        now: Wall time.
        code: The error of SageMaker's API; None: it was none.
    """
    what = f"Failed to set {_change(activity)}. Reason: {reason}"
    if code is not None:
        what += (
            f" (Service: AmazonSageMaker; Status Code: 400; Error Code: {code}; "
            f"Request ID: {activity.id})."
        )
    return replace(activity, status=ActivityStatus.FAILED, status_message=what, ended_at=now)


def overridden(activity: ScalingActivity, now: datetime) -> ScalingActivity:
    """Return the activity that a newer one takes the place of."""
    return replace(
        activity,
        status=ActivityStatus.OVERRIDDEN,
        status_message=f"The change to {_change(activity)} was overridden by a newer one.",
        ended_at=now,
    )


def unfulfilled(activity: ScalingActivity, now: datetime) -> ScalingActivity:
    """Return the activity that took too long."""
    return replace(
        activity,
        status=ActivityStatus.UNFULFILLED,
        status_message=(
            f"Failed to fulfill the change: the {_change(activity)} was not reached in time."
        ),
        ended_at=now,
    )


def setting_bounds(
    target: ScalableTarget,
    name: str,
    minimum: int | None,
    maximum: int | None,
    now: datetime,
    *,
    refusal: str | None = None,
) -> ScalingActivity:
    """Return what a scheduled action did to the bounds.

    Args:
        target: Whose.
        name: Of the scheduled action.
        minimum: What it sets, if any.
        maximum: What it sets, if any.
        now: Wall time.
        refusal: Why it could not be done.
    """
    said = [
        f"{which} capacity to {value}"
        for which, value in (("min", minimum), ("max", maximum))
        if value is not None
    ]
    what = " and ".join(said)
    done = f"Successfully set {what}"
    return ScalingActivity(
        id=str(uuid.uuid4()),
        target=target.name,
        target_id=target.id,
        description=f"Setting {what}",
        cause=f"scheduled action name {name} was triggered",
        status=ActivityStatus.FAILED if refusal else ActivityStatus.SUCCESSFUL,
        status_message=f"Failed to set {what}. Reason: {refusal}" if refusal else done,
        started_at=now,
        ended_at=now,
    )


def not_scaled(
    target: ScalableTarget, cause: str, reason: dict[str, object], now: datetime
) -> ScalingActivity:
    """Return that an alarm called and nothing was done."""
    return ScalingActivity(
        id=str(uuid.uuid4()),
        target=target.name,
        target_id=target.id,
        description="Attempting to scale due to alarm triggered",
        cause=cause,
        status=ActivityStatus.FAILED,
        started_at=now,
        ended_at=now,
        not_scaled=(reason,),
    )


def _noun(target: ScalableTarget) -> str:
    return DIMENSIONS[target.name.dimension].noun


def _change(activity: ScalingActivity) -> str:
    return f"{DIMENSIONS[activity.target.dimension].noun} to {activity.capacity}"


def _set(activity: ScalingActivity) -> str:
    return f"Successfully set {_change(activity)}."
