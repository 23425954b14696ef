"""What files say again of unread ones is noted, and taken over only once they have been read whole themselves."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table of notes."""
    op.create_table(
        "said_again",
        sa.Column("import_id", sa.Text(), nullable=False),
        sa.Column("change_id", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("import_id", "change_id"),
        sqlite_with_rowid=False,
    )
