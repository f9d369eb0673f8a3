"""Metrics: which there are, their data points, how far their sources have been read; dashboards."""

import sqlalchemy as sa

from clary.store.schema.base import Timestamp, metadata

# The id is made from all that identifies a series, so that writers need not ask for it.
metric_series = sa.Table(
    "metric_series",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("namespace", sa.String(255), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("dimensions", sa.JSON, nullable=False),
    sa.Column("unit", sa.String(32), nullable=False),
    sa.Column("last_at", sa.BigInteger, nullable=False),
)

# Times are seconds since 1970: the start of the period, which is a multiple of the resolution.
metric_points = sa.Table(
    "metric_points",
    metadata,
    sa.Column("series_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("resolution_s", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("count", sa.Float, nullable=False),
    sa.Column("sum", sa.Float, nullable=False),
    sa.Column("minimum", sa.Float, nullable=False),
    sa.Column("maximum", sa.Float, nullable=False),
    sa.Column("buckets", sa.LargeBinary),
    sa.Index("ix_metric_points_resolution_s_at", "resolution_s", "at"),
    sqlite_with_rowid=False,
)

# When a series had a value of 0 in every period in which it has no point.
metric_presence = sa.Table(
    "metric_presence",
    metadata,
    sa.Column("series_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("since", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("until", sa.BigInteger),
    sa.Column("step_s", sa.Integer, nullable=False),
)

dashboards = sa.Table(
    "dashboards",
    metadata,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("modified_at", Timestamp, nullable=False),
)

metric_marks = sa.Table(
    "metric_marks",
    metadata,
    sa.Column("source", sa.String(64), primary_key=True),
    sa.Column("item", sa.String(255), primary_key=True),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Column("seen_at", sa.BigInteger, nullable=False, index=True),
)
