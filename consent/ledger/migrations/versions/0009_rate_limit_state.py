"""The rate limit's state outlives the broker that enforces it, and one run at a time brings a broker of its own."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_LONGEST_HORIZON_SECONDS = 10
_KNOWN = """
INSERT INTO connections (name, breaker)
SELECT DISTINCT CASE bucket WHEN '' THEN connection ELSE connection || '/' || bucket END, 'closed'
FROM targets WHERE true
ON CONFLICT (name) DO NOTHING
"""


def upgrade() -> None:
    """Add what is known of each bucket, and the table of leases."""
    _add_witnesses()
    _add_reservations()
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
    )


def _add_witnesses() -> None:
    """Add which customers' answers opened a breaker, and which customer was served last."""
    op.add_column("connections", sa.Column("suspects", sa.Text(), nullable=True))
    op.add_column("connections", sa.Column("served_id", sa.BigInteger(), nullable=True))


def _add_reservations() -> None:
    """Add until when each bucket's call slots are given out.

    Older versions did not write down what they gave out. Every bucket that they knew may have been called until now,
    and within the longest horizon by a process that has not noticed yet.
    """
    op.add_column("connections", sa.Column("reserved_until", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("connections", sa.Column("reserved_by", sa.Text(), nullable=True))
    bind = op.get_bind()
    if bind.dialect.name == "postgresql":
        now = int(bind.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one() * 1_000_000)
    else:
        now = time.time_ns() // 1_000
    until = {"until": now + _LONGEST_HORIZON_SECONDS * 1_000_000}
    op.execute(_KNOWN)
    bind.execute(sa.text("UPDATE connections SET reserved_until = :until, reserved_by = ''"), until)
