"""Inference components."""

import sqlalchemy as sa

from clary.store.schema.base import Timestamp, metadata

inference_components = sa.Table(
    "inference_components",
    metadata,
    sa.Column("name_key", sa.String(63), primary_key=True),
    sa.Column("name", sa.String(63), nullable=False),
    sa.Column("endpoint_name", sa.String(63), nullable=False, index=True),
    sa.Column("variant_name", sa.String(63), nullable=False),
    sa.Column("base_name", sa.String(63)),
    sa.Column("status", sa.String(32), nullable=False, index=True),
    sa.Column("failure_reason", sa.Text),
    sa.Column("desired_copies", sa.Integer, nullable=False),
    sa.Column("current_copies", sa.Integer, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("created_at", Timestamp, nullable=False, index=True),
    sa.Column("modified_at", Timestamp, nullable=False),
    # As it was asked for, and what copies run: snapshots.
    sa.Column("definition", sa.JSON, nullable=False),
    sa.Column("spec", sa.JSON, nullable=False),
    # What a rolling update leaves behind, and how far it has come.
    sa.Column("update", sa.JSON(none_as_null=True)),
    sa.Column("deployment_config", sa.JSON(none_as_null=True)),
)
