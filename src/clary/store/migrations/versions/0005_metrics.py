"""Metrics: series, points, presence, and marks of their sources; dashboards."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "metric_series",
        sa.Column("id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("namespace", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("dimensions", sa.JSON, nullable=False),
        sa.Column("unit", sa.String(32), nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_metric_series"),
    )
    op.create_table(
        "metric_points",
        sa.Column("series_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("resolution_s", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("count", sa.Float, nullable=False),
        sa.Column("sum", sa.Float, nullable=False),
        sa.Column("minimum", sa.Float, nullable=False),
        sa.Column("maximum", sa.Float, nullable=False),
        sa.Column("buckets", sa.LargeBinary),
        sa.PrimaryKeyConstraint("series_id", "at", "resolution_s", name="pk_metric_points"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_metric_points_resolution_s_at", "metric_points", ["resolution_s", "at"])
    op.create_table(
        "metric_presence",
        sa.Column("series_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("since", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("until", sa.BigInteger),
        sa.Column("step_s", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("series_id", "since", name="pk_metric_presence"),
    )
    op.create_table(
        "dashboards",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("modified_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_dashboards"),
    )
    op.create_table(
        "metric_marks",
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("item", sa.String(255), nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("source", "item", name="pk_metric_marks"),
    )
    op.create_index("ix_metric_marks_seen_at", "metric_marks", ["seen_at"])
