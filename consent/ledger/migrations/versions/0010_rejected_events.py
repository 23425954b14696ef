"""A rejected event keeps what it said, for a set time; an import knows its rejects file by what stands in it."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is kept."""
    op.add_column("imports", sa.Column("rejects_digest", sa.Text(), nullable=True))
