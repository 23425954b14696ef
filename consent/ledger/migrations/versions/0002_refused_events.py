"""Refused events: where each stands in its source, and a key by which one that comes twice is known again."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two columns to the refused rows; rows of files leave them empty."""
    op.add_column("rejects", sa.Column("place", sa.Text(), nullable=True))
    op.add_column("rejects", sa.Column("dedupe_key", sa.LargeBinary(), nullable=True))
    op.create_index("ix_rejects_dedupe", "rejects", ["dedupe_key"], unique=True)
