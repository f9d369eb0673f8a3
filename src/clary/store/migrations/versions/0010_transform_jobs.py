"""Transform jobs; names of instances' owners get room for them."""

import sqlalchemy as sa
from alembic import op

from clary.store.schema.base import Timestamp

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "transform_jobs",
        sa.Column("name_key", sa.String(63)),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("failure_reason", sa.Text),
        sa.Column("outcome", sa.String(32)),
        sa.Column("outcome_reason", sa.Text),
        sa.Column("instance_type", sa.String(64), nullable=False),
        sa.Column("instance_count", sa.Integer, nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("modified_at", Timestamp, nullable=False),
        sa.Column("started_at", Timestamp),
        sa.Column("ended_at", Timestamp),
        sa.Column("model", sa.JSON, nullable=False),
        sa.Column("definition", sa.JSON, nullable=False),
        sa.Column("owner", sa.String(64)),
        sa.Column("is_listed", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("name_key", name="pk_transform_jobs"),
    )
    for column in ("created_at", "status"):
        op.create_index(f"ix_transform_jobs_{column}", "transform_jobs", [column])
    op.create_table(
        "transform_files",
        sa.Column("job_key", sa.String(63), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("bucket", sa.String(255), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("etag", sa.String(128), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("output_key", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("failure", sa.Text),
        sa.Column("done_bytes", sa.BigInteger, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("upload_id", sa.Text),
        sa.Column("etags", sa.JSON, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("job_key", "position", name="pk_transform_files"),
        sa.ForeignKeyConstraint(
            ["job_key"],
            ["transform_jobs.name_key"],
            name="fk_transform_files_job_key_transform_jobs",
            ondelete="CASCADE",
        ),
    )
    with op.batch_alter_table("instances") as table:
        table.alter_column(
            "endpoint_name", existing_type=sa.String(63), type_=sa.String(80), nullable=False
        )
