"""The rate limit's state outlives the broker that enforces it."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is known of each bucket."""
    _add_witnesses()


def _add_witnesses() -> None:
    """Add which customers' answers opened a breaker, and which customer was served last."""
    op.add_column("connections", sa.Column("suspects", sa.Text(), nullable=True))
    op.add_column("connections", sa.Column("served_id", sa.BigInteger(), nullable=True))
