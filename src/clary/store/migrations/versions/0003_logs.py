"""Log groups, and the streams and events that clients put."""

import sqlalchemy as sa
from alembic import op

from clary.store.schema.base import Timestamp

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    serial = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "log_groups",
        sa.Column("name", sa.String(512)),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("retention_days", sa.Integer),
        sa.Column("kms_key_id", sa.String(256)),
        sa.Column("group_class", sa.String(32), nullable=False),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_log_groups"),
    )
    op.create_table(
        "log_streams",
        sa.Column("id", serial),
        sa.Column("group_name", sa.String(512), nullable=False),
        sa.Column("name", sa.String(512), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("stored_bytes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_log_streams"),
        sa.UniqueConstraint("group_name", "name", name="uq_log_streams_group_name_name"),
        sa.ForeignKeyConstraint(
            ["group_name"],
            ["log_groups.name"],
            name="fk_log_streams_group_name_log_groups",
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "log_events",
        sa.Column("id", serial),
        sa.Column("stream_id", serial, nullable=False),
        sa.Column("timestamp_ms", sa.BigInteger, nullable=False),
        sa.Column("ingested_ms", sa.BigInteger, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_log_events"),
        sa.ForeignKeyConstraint(
            ["stream_id"],
            ["log_streams.id"],
            name="fk_log_events_stream_id_log_streams",
            ondelete="CASCADE",
        ),
    )
    op.create_index(
        "ix_log_events_stream_id_timestamp_ms_id",
        "log_events",
        ["stream_id", "timestamp_ms", "id"],
    )
