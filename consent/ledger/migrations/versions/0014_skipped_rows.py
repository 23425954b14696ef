"""An import counts the rows that its feed leaves out."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the count; no earlier import left a row out."""
    op.add_column("imports", sa.Column("skipped", sa.BigInteger(), nullable=False, server_default="0"))
