"""Repeated words: what a full dump says again is kept compactly, and a slot knows its newest word again by its key."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_KEYS = "UPDATE slots SET newest_key = (SELECT dedupe_key FROM changes WHERE changes.id = slots.newest_id)"


def upgrade() -> None:
    """Add the table of repeated words, the two places of an import in it, and the key of each slot's newest word."""
    op.add_column("imports", sa.Column("repeated", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("imports", sa.Column("weighed_to", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("slots", sa.Column("newest_key", sa.LargeBinary(), nullable=True))
    op.execute(_KEYS)
    op.create_table(
        "repeats",
        sa.Column("import_id", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=True),
        sa.Column("dedupe_key", sa.LargeBinary(), nullable=False),
        sa.Column("target_key", sa.LargeBinary(), nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("effective_at", sa.BigInteger(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("import_id", "number"),
        sqlite_with_rowid=False,
    )
