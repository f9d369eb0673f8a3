"""What Application Auto Scaling keeps: targets, policies, scheduled actions, activities."""

import sqlalchemy as sa

from clary.store.schema.base import Timestamp, metadata

scalable_targets = sa.Table(
    "scalable_targets",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("resource_id", sa.String(256), nullable=False),
    sa.Column("dimension", sa.String(64), nullable=False),
    sa.Column("min_capacity", sa.Integer, nullable=False),
    sa.Column("max_capacity", sa.Integer, nullable=False),
    sa.Column("role_arn", sa.Text, nullable=False),
    sa.Column("suspended", sa.JSON, nullable=False),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    # What cooldowns are counted from.
    sa.Column("out_at", Timestamp),
    sa.Column("out_added", sa.Integer, nullable=False),
    sa.Column("in_at", Timestamp),
    sa.Column("last_reason", sa.String(64)),
    sa.UniqueConstraint("resource_id", "dimension"),
)

scaling_policies = sa.Table(
    "scaling_policies",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column(
        "target_id", sa.ForeignKey("scalable_targets.id", ondelete="CASCADE"), nullable=False
    ),
    sa.Column("name", sa.String(256), nullable=False),
    sa.Column("type", sa.String(32), nullable=False),
    sa.Column("configuration", sa.JSON, nullable=False),
    sa.Column("alarms", sa.JSON, nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.UniqueConstraint("target_id", "name"),
)

scheduled_actions = sa.Table(
    "scheduled_actions",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column(
        "target_id", sa.ForeignKey("scalable_targets.id", ondelete="CASCADE"), nullable=False
    ),
    sa.Column("name", sa.String(256), nullable=False),
    sa.Column("schedule", sa.Text, nullable=False),
    sa.Column("timezone", sa.Text),
    sa.Column("starts_at", Timestamp),
    sa.Column("ends_at", Timestamp),
    sa.Column("min_capacity", sa.Integer),
    sa.Column("max_capacity", sa.Integer),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("next_at", Timestamp, index=True),
    sa.UniqueConstraint("target_id", "name"),
)

# No foreign key: activities outlive their target.
scaling_activities = sa.Table(
    "scaling_activities",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("target_id", sa.String(36), nullable=False, index=True),
    sa.Column("resource_id", sa.String(256), nullable=False),
    sa.Column("dimension", sa.String(64), nullable=False),
    sa.Column("status", sa.String(16), nullable=False, index=True),
    sa.Column("started_at", Timestamp, nullable=False, index=True),
    sa.Column("ended_at", Timestamp),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("status_message", sa.Text),
    sa.Column("not_scaled", sa.JSON, nullable=False),
    sa.Column("capacity", sa.Integer),
    sa.Column("previous", sa.Integer),
    sa.Column("by_policy", sa.Boolean, nullable=False),
    sa.Index("ix_scaling_activities_resource_id_started_at", "resource_id", "started_at"),
)
