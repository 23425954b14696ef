"""When a slot was confirmed, whether a change's time is its own, and the time that an export stamped on its rows.

Of what was confirmed before, the moment is that of the newest change if a call settled it. Otherwise it is unknown, and
the next opt-out that brings a time of its own is delivered.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_MOMENTS = """
UPDATE slots SET confirmed_at = (
    SELECT settled_at FROM changes
    WHERE changes.id = slots.newest_id AND changes.attempts > 0 AND changes.state IN ('applied', 'unchanged')
) WHERE confirmed IS NOT NULL
"""


def upgrade() -> None:
    """Add the columns, and fill in the moments that are known."""
    if op.get_bind().dialect.name == "postgresql":
        # Whoever writes has read the revision first: so everybody who took it for the old one ends before we begin.
        op.execute("LOCK TABLE alembic_version, imports, changes, slots IN ACCESS EXCLUSIVE MODE")
    op.add_column("slots", sa.Column("confirmed_at", sa.BigInteger(), nullable=True))
    for table in ("changes", "repeats"):
        op.add_column(table, sa.Column("own_time", sa.SmallInteger(), server_default="1", nullable=False))
    op.add_column("imports", sa.Column("reassert", sa.Text(), nullable=True))
    op.add_column("imports", sa.Column("times", sa.Text(), nullable=True))
    op.add_column("imports", sa.Column("stamp_from", sa.BigInteger(), nullable=True))
    op.add_column("imports", sa.Column("stamp_to", sa.BigInteger(), nullable=True))
    op.add_column("imports", sa.Column("stamped", sa.BigInteger(), server_default="0", nullable=False))
    op.execute(_MOMENTS)
