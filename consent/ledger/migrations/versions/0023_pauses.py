"""A person may pause a connection, one of its buckets, or opt-ins alone."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add an empty table."""
    op.create_table(
        "pauses",
        sa.Column("connection", sa.Text(), primary_key=True),
        sa.Column("every_bucket", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("bucket", sa.Text(), primary_key=True),
        sa.Column("only_optins", sa.SmallInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
    )
