"""Opt-ins of events are held where they overrule too many opt-outs, and bursts of opt-outs are told."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two empty tables."""
    op.create_table(
        "event_guards",
        *(sa.Column(name, sa.Text(), nullable=False, primary_key=True) for name in ("sender", "connection")),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("since", "overruled", "look_at")),
        sa.Column("import_id", sa.Text(), nullable=True),
    )
    op.create_table(
        "event_optouts",
        sa.Column("connection", sa.Text(), primary_key=True),
        sa.Column("minute", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("optouts", sa.Integer(), nullable=False),
        sqlite_with_rowid=False,
    )
