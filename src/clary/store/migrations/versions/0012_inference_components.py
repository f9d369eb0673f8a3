"""Inference components; records of instances say on which instance of an endpoint a copy is."""

import sqlalchemy as sa
from alembic import op

from clary.store.schema.base import Timestamp

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "inference_components",
        sa.Column("name_key", sa.String(63)),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("endpoint_name", sa.String(63), nullable=False),
        sa.Column("variant_name", sa.String(63), nullable=False),
        sa.Column("base_name", sa.String(63)),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("failure_reason", sa.Text),
        sa.Column("desired_copies", sa.Integer, nullable=False),
        sa.Column("current_copies", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("modified_at", Timestamp, nullable=False),
        sa.Column("definition", sa.JSON, nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("update", sa.JSON),
        sa.Column("deployment_config", sa.JSON),
        sa.PrimaryKeyConstraint("name_key", name="pk_inference_components"),
    )
    for column in ("created_at", "endpoint_name", "status"):
        op.create_index(f"ix_inference_components_{column}", "inference_components", [column])
    with op.batch_alter_table("instances") as table:
        table.alter_column(
            "endpoint_name", existing_type=sa.String(80), type_=sa.String(96), nullable=False
        )
        table.add_column(sa.Column("host_id", sa.String(64)))
        table.add_column(sa.Column("share", sa.JSON))
