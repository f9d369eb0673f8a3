"""Between rows of the scaling tables and their values."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from clary.resources.scaling import (
    ActivityStatus,
    Cooling,
    ScalableTarget,
    ScalingActivity,
    ScalingPolicy,
    ScheduledAction,
    SuspendedState,
    TargetName,
)
from clary.store.schema import (
    scalable_targets,
    scaling_activities,
    scaling_policies,
    scheduled_actions,
)

IN_ONE_QUERY = 500
"""Most values in one ``IN``: databases bound the parameters of a statement."""


def parts(values: Sequence[str]) -> Iterable[Sequence[str]]:
    """Cut values into pieces that fit into one ``IN``."""
    for start in range(0, len(values), IN_ONE_QUERY):
        yield values[start : start + IN_ONE_QUERY]


def to_target(row: Row[Any]) -> ScalableTarget:
    return ScalableTarget(
        id=row.id,
        name=TargetName(row.resource_id, row.dimension),
        min_capacity=row.min_capacity,
        max_capacity=row.max_capacity,
        role_arn=row.role_arn,
        suspended=SuspendedState(**row.suspended),
        created_at=row.created_at,
        cooling=Cooling(out_at=row.out_at, out_added=row.out_added, in_at=row.in_at),
        last_reason=row.last_reason,
    )


def to_policy(row: Row[Any]) -> ScalingPolicy:
    return ScalingPolicy(
        id=row.id,
        target=TargetName(row.resource_id, row.dimension),
        target_id=row.target_id,
        name=row.name,
        type=row.type,
        configuration=row.configuration,
        alarms=tuple(row.alarms),
        created_at=row.created_at,
    )


def to_action(row: Row[Any]) -> ScheduledAction:
    return ScheduledAction(
        id=row.id,
        target=TargetName(row.resource_id, row.dimension),
        target_id=row.target_id,
        name=row.name,
        schedule=row.schedule,
        timezone=row.timezone,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        min_capacity=row.min_capacity,
        max_capacity=row.max_capacity,
        created_at=row.created_at,
        next_at=row.next_at,
    )


def to_activity(row: Row[Any]) -> ScalingActivity:
    return ScalingActivity(
        id=row.id,
        target=TargetName(row.resource_id, row.dimension),
        target_id=row.target_id,
        description=row.description,
        cause=row.cause,
        status=ActivityStatus(row.status),
        status_message=row.status_message,
        started_at=row.started_at,
        ended_at=row.ended_at,
        not_scaled=row.not_scaled,
        capacity=row.capacity,
        previous=row.previous,
        by_policy=row.by_policy,
    )


def activity_values(activity: ScalingActivity) -> dict[str, Any]:
    return {
        "id": activity.id,
        "target_id": activity.target_id,
        "resource_id": activity.target.resource_id,
        "dimension": activity.target.dimension,
        "description": activity.description,
        "cause": activity.cause,
        "status": activity.status.value,
        "status_message": activity.status_message,
        "started_at": activity.started_at,
        "ended_at": activity.ended_at,
        "not_scaled": [dict(reason) for reason in activity.not_scaled],
        "capacity": activity.capacity,
        "previous": activity.previous,
        "by_policy": activity.by_policy,
    }


def with_target(table: sa.Table) -> sa.Select[Any]:
    """Return a query of policies or scheduled actions with the names of their targets."""
    target = scalable_targets
    return sa.select(table, target.c.resource_id, target.c.dimension).join(
        target, target.c.id == table.c.target_id
    )


def find_target(connection: Connection, name: TargetName) -> ScalableTarget | None:
    """Return the target of a name, or None."""
    table = scalable_targets
    row = connection.execute(
        sa.select(table).where(
            table.c.resource_id == name.resource_id, table.c.dimension == name.dimension
        )
    ).first()
    return None if row is None else to_target(row)


def policies_of(connection: Connection, target_ids: Sequence[str]) -> list[ScalingPolicy]:
    """Return all policies of some targets."""
    found = []
    for part in parts(target_ids):
        query = with_target(scaling_policies).where(scaling_policies.c.target_id.in_(part))
        found += [to_policy(row) for row in connection.execute(query)]
    return found


def find_policy(connection: Connection, target_id: str, name: str) -> ScalingPolicy | None:
    """Return a policy of a target, or None."""
    table = scaling_policies
    query = with_target(table).where(table.c.target_id == target_id, table.c.name == name)
    row = connection.execute(query).first()
    return None if row is None else to_policy(row)


def find_action(connection: Connection, target_id: str, name: str) -> ScheduledAction | None:
    """Return a scheduled action of a target, or None."""
    table = scheduled_actions
    query = with_target(table).where(table.c.target_id == target_id, table.c.name == name)
    row = connection.execute(query).first()
    return None if row is None else to_action(row)


def insert_activities(connection: Connection, activities: Sequence[ScalingActivity]) -> None:
    """Write new activities."""
    if activities:
        rows = [activity_values(activity) for activity in activities]
        connection.execute(scaling_activities.insert(), rows)
