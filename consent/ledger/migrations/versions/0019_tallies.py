"""Calls are noted for counters where they are settled, and counters are kept; a discard is told from a death."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is counted from now on; of outcomes, those that the log still has are counted too."""
    op.create_table(
        "tallies",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("labels", sa.Text(), primary_key=True),
        sa.Column("value", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "uncounted_calls",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("target_id", sa.BigInteger(), nullable=False),
        sa.Column("calls", sa.Text(), nullable=False),
    )
    op.add_column("outcome_log", sa.Column("discarded", sa.SmallInteger(), nullable=True))
