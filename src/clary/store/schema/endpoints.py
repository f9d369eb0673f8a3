"""Models, endpoint configurations, endpoints, their instances; tags of all of them."""

import sqlalchemy as sa

from clary.store.schema.base import Timestamp, metadata

models = sa.Table(
    "models",
    metadata,
    sa.Column("name_key", sa.String(63), primary_key=True),
    sa.Column("name", sa.String(63), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False, index=True),
    sa.Column("document", sa.JSON, nullable=False),
)

endpoint_configs = sa.Table(
    "endpoint_configs",
    metadata,
    sa.Column("name_key", sa.String(63), primary_key=True),
    sa.Column("name", sa.String(63), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False, index=True),
    sa.Column("document", sa.JSON, nullable=False),
)

endpoints = sa.Table(
    "endpoints",
    metadata,
    sa.Column("name_key", sa.String(63), primary_key=True),
    sa.Column("name", sa.String(63), nullable=False),
    sa.Column("status", sa.String(32), nullable=False, index=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("failure_reason", sa.Text),
    sa.Column("created_at", Timestamp, nullable=False, index=True),
    sa.Column("modified_at", Timestamp, nullable=False),
    # Snapshots, written once for each generation.
    sa.Column("config", sa.JSON, nullable=False),
    sa.Column("models", sa.JSON, nullable=False),
    sa.Column("deployment_config", sa.JSON(none_as_null=True)),
    sa.Column("fleet", sa.Integer, nullable=False, server_default="1"),
)

endpoint_variants = sa.Table(
    "endpoint_variants",
    metadata,
    sa.Column(
        "endpoint_key",
        sa.ForeignKey("endpoints.name_key", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("instance_type", sa.String(64)),
    sa.Column("desired_count", sa.Integer, nullable=False),
    sa.Column("current_count", sa.Integer, nullable=False),
    sa.Column("desired_weight", sa.Float, nullable=False),
    sa.Column("current_weight", sa.Float, nullable=False),
    sa.Column("previous_count", sa.Integer),
    sa.Column("previous_weight", sa.Float),
    # What is wanted and there of a serverless variant's concurrency.
    sa.Column("serverless", sa.JSON(none_as_null=True)),
)

# No foreign key to the endpoint: a record outlives it until its process is known to be gone.
instances = sa.Table(
    "instances",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    # Or the name that transform jobs or copies of inference components are kept under, which are
    # longer than any endpoint's.
    sa.Column("endpoint_name", sa.String(96), nullable=False, index=True),
    sa.Column("variant_name", sa.String(63), nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("stopping", sa.Boolean, nullable=False),
    sa.Column("fleet", sa.Integer, nullable=False, server_default="1"),
    # Of a copy of an inference component: the endpoint's instance that it is placed on.
    sa.Column("host_id", sa.String(64)),
    sa.Column("share", sa.JSON(none_as_null=True)),
)

tags = sa.Table(
    "tags",
    metadata,
    sa.Column("kind", sa.String(32), primary_key=True),
    sa.Column("name_key", sa.String(63), primary_key=True),
    sa.Column("key", sa.String(128), primary_key=True),
    sa.Column("value", sa.String(256), nullable=False),
)
