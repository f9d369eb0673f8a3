"""What a variant's count and weight were before the last change, to go back to."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("endpoint_variants", sa.Column("previous_count", sa.Integer))
    op.add_column("endpoint_variants", sa.Column("previous_weight", sa.Float))
