"""Queue of asynchronous invocations, and the outbox of notifications."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "async_invocations",
        sa.Column("seq", _SERIAL, nullable=False),
        sa.Column("endpoint", sa.String(63), nullable=False),
        sa.Column("inference_id", sa.String(64), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("accepted_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("losses", sa.Integer, nullable=False),
        sa.Column("owner", sa.String(255)),
        sa.Column("leased_until", sa.BigInteger),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("ended_seq", sa.BigInteger),
        sa.Column("result", sa.JSON),
        sa.Column("order", sa.JSON, nullable=False),
        sa.Column("body", sa.LargeBinary),
        sa.PrimaryKeyConstraint("seq", name="pk_async_invocations"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_async_invocations_state", "async_invocations", ["state", "endpoint", "seq"])
    op.create_index("ix_async_invocations_id", "async_invocations", ["endpoint", "inference_id"])
    op.create_index("ix_async_invocations_ended", "async_invocations", ["ended_seq"])
    op.create_table(
        "outbox",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("topic", sa.String(2048), nullable=False),
        sa.Column("endpoint", sa.String(63), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sqlite_autoincrement=True,
    )
