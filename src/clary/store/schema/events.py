"""Events that are to be delivered, and how far each receiver has come."""

import sqlalchemy as sa

from clary.store.schema.base import Timestamp, metadata

events = sa.Table(
    "events",
    metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("id", sa.String(36), nullable=False),
    sa.Column("at", Timestamp, nullable=False),
    sa.Column("document", sa.JSON, nullable=False),
    sqlite_autoincrement=True,  # a number is never used twice: receivers remember them
)

event_receivers = sa.Table(
    "event_receivers",
    metadata,
    sa.Column("name", sa.String(512), primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
)
