"""Application Auto Scaling: targets, policies, scheduled actions, activities."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "scalable_targets",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("resource_id", sa.String(256), nullable=False),
        sa.Column("dimension", sa.String(64), nullable=False),
        sa.Column("min_capacity", sa.Integer, nullable=False),
        sa.Column("max_capacity", sa.Integer, nullable=False),
        sa.Column("role_arn", sa.Text, nullable=False),
        sa.Column("suspended", sa.JSON, nullable=False),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("out_at", sa.BigInteger),
        sa.Column("out_added", sa.Integer, nullable=False),
        sa.Column("in_at", sa.BigInteger),
        sa.Column("last_reason", sa.String(64)),
        sa.PrimaryKeyConstraint("id", name="pk_scalable_targets"),
        sa.UniqueConstraint(
            "resource_id", "dimension", name="uq_scalable_targets_resource_id_dimension"
        ),
    )
    for table in ("scaling_policies", "scheduled_actions"):
        columns = (
            [
                sa.Column("type", sa.String(32), nullable=False),
                sa.Column("configuration", sa.JSON, nullable=False),
                sa.Column("alarms", sa.JSON, nullable=False),
                sa.Column("created_at", sa.BigInteger, nullable=False),
            ]
            if table == "scaling_policies"
            else [
                sa.Column("schedule", sa.Text, nullable=False),
                sa.Column("timezone", sa.Text),
                sa.Column("starts_at", sa.BigInteger),
                sa.Column("ends_at", sa.BigInteger),
                sa.Column("min_capacity", sa.Integer),
                sa.Column("max_capacity", sa.Integer),
                sa.Column("created_at", sa.BigInteger, nullable=False),
                sa.Column("next_at", sa.BigInteger),
            ]
        )
        op.create_table(
            table,
            sa.Column("id", sa.String(36), nullable=False),
            sa.Column("target_id", sa.String(36), nullable=False),
            sa.Column("name", sa.String(256), nullable=False),
            *columns,
            sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
            sa.ForeignKeyConstraint(
                ["target_id"],
                ["scalable_targets.id"],
                name=f"fk_{table}_target_id_scalable_targets",
                ondelete="CASCADE",
            ),
            sa.UniqueConstraint("target_id", "name", name=f"uq_{table}_target_id_name"),
        )
    op.create_index("ix_scheduled_actions_next_at", "scheduled_actions", ["next_at"])
    op.create_table(
        "scaling_activities",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("target_id", sa.String(36), nullable=False),
        sa.Column("resource_id", sa.String(256), nullable=False),
        sa.Column("dimension", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("status_message", sa.Text),
        sa.Column("not_scaled", sa.JSON, nullable=False),
        sa.Column("capacity", sa.Integer),
        sa.Column("previous", sa.Integer),
        sa.Column("by_policy", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_scaling_activities"),
    )
    for columns_of_index in (
        ["target_id"],
        ["status"],
        ["started_at"],
        ["resource_id", "started_at"],
    ):
        op.create_index(
            f"ix_scaling_activities_{'_'.join(columns_of_index)}",
            "scaling_activities",
            columns_of_index,
        )
