"""Alarms, what composite ones watch, what happened to them, and actions still to be carried out."""

import sqlalchemy as sa

from clary.store.schema.base import Timestamp, metadata

alarms = sa.Table(
    "alarms",
    metadata,
    # As it was written: CloudWatch tells names apart by case.
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("type", sa.String(16), nullable=False),
    sa.Column("definition", sa.JSON, nullable=False),
    # What DescribeAlarmsForMetric looks for; null for expressions and composite alarms.
    sa.Column("metric_id", sa.Text, index=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("configured_at", Timestamp, nullable=False),
    sa.Column("state_value", sa.String(18), nullable=False),
    sa.Column("state_reason", sa.Text, nullable=False),
    sa.Column("state_reason_data", sa.Text),
    sa.Column("state_updated_at", Timestamp, nullable=False),
    sa.Column("state_transitioned_at", Timestamp, nullable=False),
    sa.Column("withheld", sa.JSON(none_as_null=True)),
    sa.Column("tags", sa.JSON, nullable=False),
)

alarm_children = sa.Table(
    "alarm_children",
    metadata,
    sa.Column("parent", sa.ForeignKey("alarms.name", ondelete="CASCADE"), primary_key=True),
    # No foreign key: a suppressor, too, is named here, and goes when it is deleted by force.
    sa.Column("child", sa.String(255), primary_key=True, index=True),
)

# No foreign key to the alarm: its history outlives it.
alarm_history = sa.Table(
    "alarm_history",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("alarm_name", sa.String(255), nullable=False, index=True),
    sa.Column("alarm_type", sa.String(16), nullable=False),
    sa.Column("at", Timestamp, nullable=False, index=True),
    sa.Column("item_type", sa.String(32), nullable=False),
    sa.Column("summary", sa.String(255), nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sqlite_autoincrement=True,
)

# Written with the transition that they belong to, removed when they were carried out: what is here
# at a start was interrupted.
alarm_actions = sa.Table(
    "alarm_actions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("alarm_name", sa.String(255), nullable=False),
    sa.Column("action", sa.String(1024), nullable=False),
    sa.Column("transition", sa.JSON, nullable=False),
)
