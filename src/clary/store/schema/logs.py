"""Log groups; streams and events that clients put. What instances write stays in files."""

import sqlalchemy as sa

from clary.store.schema.base import Serial, Timestamp, metadata

log_groups = sa.Table(
    "log_groups",
    metadata,
    sa.Column("name", sa.String(512), primary_key=True),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("retention_days", sa.Integer),
    sa.Column("kms_key_id", sa.String(256)),
    sa.Column("group_class", sa.String(32), nullable=False),
    sa.Column("tags", sa.JSON, nullable=False),
)

log_streams = sa.Table(
    "log_streams",
    metadata,
    sa.Column("id", Serial, primary_key=True),
    sa.Column("group_name", sa.ForeignKey("log_groups.name", ondelete="CASCADE"), nullable=False),
    sa.Column("name", sa.String(512), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("stored_bytes", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("group_name", "name"),
)

# Times are AWS's: milliseconds since 1970.
log_events = sa.Table(
    "log_events",
    metadata,
    sa.Column("id", Serial, primary_key=True),
    sa.Column("stream_id", sa.ForeignKey("log_streams.id", ondelete="CASCADE"), nullable=False),
    sa.Column("timestamp_ms", sa.BigInteger, nullable=False),
    sa.Column("ingested_ms", sa.BigInteger, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.Integer, nullable=False),
    sa.Index(None, "stream_id", "timestamp_ms", "id"),
)
