"""An import keeps the hash of its bytes, and what becomes of changes is noted in an order that can be followed."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is kept from now on; of what was settled before, nothing is noted."""
    op.add_column("imports", sa.Column("sha256", sa.Text(), nullable=True))
    op.create_table(
        "outcome_log",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("change_ids", sa.Text(), nullable=False),
    )
    op.create_index("ix_outcome_log_position", "outcome_log", ["position"], unique=True)
    new = sa.text("position IS NULL")
    op.create_index("ix_outcome_log_new", "outcome_log", ["id"], postgresql_where=new, sqlite_where=new)
