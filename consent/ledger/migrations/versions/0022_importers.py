"""Who has imported a file is known by its import, and whether its opt-outs were undone, too."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two empty columns."""
    op.add_column("imports", sa.Column("optouts_undone_at", sa.BigInteger(), nullable=True))
    op.add_column("imports", sa.Column("importers", sa.Text(), nullable=True))
