"""Opt-outs have a deadline by a rule, and customer tasks the one that is due first."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_HONOURED_WITHIN = 48 * 3_600_000_000


def upgrade() -> None:
    """Add what deadlines need; what is pending keeps the one that it had, which no rule gave it."""
    for table in ("changes", "noop_changes"):
        op.add_column(table, sa.Column("due_at", sa.BigInteger(), nullable=True))
        op.add_column(table, sa.Column("rule", sa.Text(), nullable=True))
    op.add_column("customer_tasks", sa.Column("rule", sa.Text(), nullable=False, server_default="none"))
    op.add_column("customer_tasks", sa.Column("enqueued_at", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(f"UPDATE customer_tasks SET enqueued_at = deadline - {_HONOURED_WITHIN}")  # noqa: S608
