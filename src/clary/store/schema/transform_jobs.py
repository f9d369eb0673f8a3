"""Transform jobs, and how far each of their files is."""

import sqlalchemy as sa

from clary.store.schema.base import Timestamp, metadata

transform_jobs = sa.Table(
    "transform_jobs",
    metadata,
    sa.Column("name_key", sa.String(63), primary_key=True),
    sa.Column("name", sa.String(63), nullable=False),
    sa.Column("status", sa.String(32), nullable=False, index=True),
    sa.Column("failure_reason", sa.Text),
    sa.Column("outcome", sa.String(32)),
    sa.Column("outcome_reason", sa.Text),
    sa.Column("instance_type", sa.String(64), nullable=False),
    sa.Column("instance_count", sa.Integer, nullable=False),
    sa.Column("created_at", Timestamp, nullable=False, index=True),
    sa.Column("modified_at", Timestamp, nullable=False),
    sa.Column("started_at", Timestamp),
    sa.Column("ended_at", Timestamp),
    sa.Column("model", sa.JSON, nullable=False),
    sa.Column("definition", sa.JSON, nullable=False),
    # Of jobs: who moves its data now, and whether its files have been listed.
    sa.Column("owner", sa.String(64)),
    sa.Column("is_listed", sa.Boolean, nullable=False),
)

transform_files = sa.Table(
    "transform_files",
    metadata,
    sa.Column(
        "job_key",
        sa.ForeignKey("transform_jobs.name_key", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("bucket", sa.String(255), nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("etag", sa.String(128), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("output_key", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("failure", sa.Text),
    # For people: bytes of the object that are through.
    sa.Column("done_bytes", sa.BigInteger, nullable=False),
    sa.Column("requests", sa.BigInteger, nullable=False),
    # Where to go on: parts of the output that are written, and the input's byte after them.
    sa.Column("upload_id", sa.Text),
    sa.Column("etags", sa.JSON, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False),
)
