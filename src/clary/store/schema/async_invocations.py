"""The queue of asynchronous invocations, and the notifications that are still to be sent."""

import sqlalchemy as sa

from clary.store.schema.base import Serial, Timestamp, metadata

# Rows are claimed by lease: `owner` has one until `leased_until`. `attempt` counts the claims and
# is the fencing token: who finishes names the attempt that he was given.
async_invocations = sa.Table(
    "async_invocations",
    metadata,
    sa.Column("seq", Serial, primary_key=True),
    sa.Column("endpoint", sa.String(63), nullable=False),
    sa.Column("inference_id", sa.String(64), nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("accepted_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),
    # Not to be claimed before: what met a fault that may pass waits a while.
    sa.Column("due_at", Timestamp, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    # How many workers ended under it.
    sa.Column("losses", sa.Integer, nullable=False),
    sa.Column("owner", sa.String(255)),
    sa.Column("leased_until", Timestamp),
    sa.Column("started_at", Timestamp),
    sa.Column("ended_at", Timestamp),
    # Counts up over the rows that ended, so that who reads on knows where he was.
    sa.Column("ended_seq", sa.BigInteger),
    sa.Column("result", sa.JSON(none_as_null=True)),
    sa.Column("order", sa.JSON, nullable=False),
    # Last, for it may be long.
    sa.Column("body", sa.LargeBinary),
    sa.Index("ix_async_invocations_state", "state", "endpoint", "seq"),
    sa.Index("ix_async_invocations_id", "endpoint", "inference_id"),
    sa.Index("ix_async_invocations_ended", "ended_seq"),
    sqlite_autoincrement=True,
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", Serial, primary_key=True),
    sa.Column("topic", sa.String(2048), nullable=False),
    sa.Column("endpoint", sa.String(63), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("due_at", Timestamp, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sqlite_autoincrement=True,
)
