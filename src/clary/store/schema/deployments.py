"""Deployments: the new fleet of an endpoint that is being updated."""

import sqlalchemy as sa

from clary.store.schema.base import Timestamp, metadata

deployments = sa.Table(
    "deployments",
    metadata,
    sa.Column(
        "endpoint_key",
        sa.ForeignKey("endpoints.name_key", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("fleet", sa.Integer, nullable=False),
    sa.Column("guest_fleet", sa.Integer),
    sa.Column("config", sa.JSON, nullable=False),
    sa.Column("models", sa.JSON, nullable=False),
    sa.Column("variants", sa.JSON, nullable=False),
    sa.Column("deployment_config", sa.JSON(none_as_null=True)),
    # Instances beyond those of the endpoint itself, by type, for the quotas.
    sa.Column("added_instances", sa.JSON, nullable=False),
    sa.Column("started_at", Timestamp, nullable=False),
    sa.Column("phase", sa.String(32), nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("rollback_step", sa.Integer, nullable=False),
    sa.Column("progress_at", Timestamp, nullable=False),
)
