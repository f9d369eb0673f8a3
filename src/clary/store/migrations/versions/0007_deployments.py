"""Updates of endpoints: the fleet that an instance belongs to, and deployments under way."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("endpoints", "instances"):
        op.add_column(table, sa.Column("fleet", sa.Integer, nullable=False, server_default="1"))
    op.create_table(
        "deployments",
        sa.Column("endpoint_key", sa.String(63), nullable=False),
        sa.Column("fleet", sa.Integer, nullable=False),
        sa.Column("guest_fleet", sa.Integer),
        sa.Column("config", sa.JSON, nullable=False),
        sa.Column("models", sa.JSON, nullable=False),
        sa.Column("variants", sa.JSON, nullable=False),
        sa.Column("deployment_config", sa.JSON),
        sa.Column("added_instances", sa.JSON, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("phase", sa.String(32), nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("rollback_step", sa.Integer, nullable=False),
        sa.Column("progress_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("endpoint_key", name="pk_deployments"),
        sa.ForeignKeyConstraint(
            ["endpoint_key"],
            ["endpoints.name_key"],
            name="fk_deployments_endpoint_key_endpoints",
            ondelete="CASCADE",
        ),
    )
