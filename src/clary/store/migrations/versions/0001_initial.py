"""Models, endpoint configurations, endpoints, instances and tags."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("models", "endpoint_configs"):
        op.create_table(
            table,
            sa.Column("name_key", sa.String(63), nullable=False),
            sa.Column("name", sa.String(63), nullable=False),
            sa.Column("created_at", sa.BigInteger, nullable=False),
            sa.Column("document", sa.JSON, nullable=False),
            sa.PrimaryKeyConstraint("name_key", name=f"pk_{table}"),
        )
        op.create_index(f"ix_{table}_created_at", table, ["created_at"])

    op.create_table(
        "endpoints",
        sa.Column("name_key", sa.String(63), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("failure_reason", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("modified_at", sa.BigInteger, nullable=False),
        sa.Column("config", sa.JSON, nullable=False),
        sa.Column("models", sa.JSON, nullable=False),
        sa.Column("deployment_config", sa.JSON),
        sa.PrimaryKeyConstraint("name_key", name="pk_endpoints"),
    )
    op.create_index("ix_endpoints_status", "endpoints", ["status"])
    op.create_index("ix_endpoints_created_at", "endpoints", ["created_at"])

    op.create_table(
        "endpoint_variants",
        sa.Column("endpoint_key", sa.String(63), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("instance_type", sa.String(64)),
        sa.Column("desired_count", sa.Integer, nullable=False),
        sa.Column("current_count", sa.Integer, nullable=False),
        sa.Column("desired_weight", sa.Float, nullable=False),
        sa.Column("current_weight", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("endpoint_key", "name", name="pk_endpoint_variants"),
        sa.ForeignKeyConstraint(
            ["endpoint_key"],
            ["endpoints.name_key"],
            name="fk_endpoint_variants_endpoint_key_endpoints",
            ondelete="CASCADE",
        ),
    )

    op.create_table(
        "instances",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("endpoint_name", sa.String(63), nullable=False),
        sa.Column("variant_name", sa.String(63), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("stopping", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_instances"),
    )
    op.create_index("ix_instances_endpoint_name", "instances", ["endpoint_name"])

    op.create_table(
        "tags",
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("name_key", sa.String(63), nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("value", sa.String(256), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name_key", "key", name="pk_tags"),
    )
