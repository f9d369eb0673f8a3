"""Alarms, their history, and actions still to be carried out."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alarms",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("definition", sa.JSON, nullable=False),
        sa.Column("metric_id", sa.Text),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("configured_at", sa.BigInteger, nullable=False),
        sa.Column("state_value", sa.String(18), nullable=False),
        sa.Column("state_reason", sa.Text, nullable=False),
        sa.Column("state_reason_data", sa.Text),
        sa.Column("state_updated_at", sa.BigInteger, nullable=False),
        sa.Column("state_transitioned_at", sa.BigInteger, nullable=False),
        sa.Column("withheld", sa.JSON),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_alarms"),
    )
    op.create_index("ix_alarms_metric_id", "alarms", ["metric_id"])

    op.create_table(
        "alarm_children",
        sa.Column("parent", sa.String(255), nullable=False),
        sa.Column("child", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("parent", "child", name="pk_alarm_children"),
        sa.ForeignKeyConstraint(
            ["parent"], ["alarms.name"], name="fk_alarm_children_parent_alarms", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_alarm_children_child", "alarm_children", ["child"])

    op.create_table(
        "alarm_history",
        sa.Column("id", sa.Integer, autoincrement=True, nullable=False),
        sa.Column("alarm_name", sa.String(255), nullable=False),
        sa.Column("alarm_type", sa.String(16), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("item_type", sa.String(32), nullable=False),
        sa.Column("summary", sa.String(255), nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alarm_history"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_alarm_history_alarm_name", "alarm_history", ["alarm_name"])
    op.create_index("ix_alarm_history_at", "alarm_history", ["at"])

    op.create_table(
        "alarm_actions",
        sa.Column("id", sa.Integer, autoincrement=True, nullable=False),
        sa.Column("alarm_name", sa.String(255), nullable=False),
        sa.Column("action", sa.String(1024), nullable=False),
        sa.Column("transition", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alarm_actions"),
    )
