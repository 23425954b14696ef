"""Fuses are kept, and the customer tasks that they hold have an index of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_IS_HELD = "waiting = 2"


def upgrade() -> None:
    """Add an empty table, and an index without entries."""
    texts = [sa.Column(name, sa.Text(), primary_key=True) for name in ("name", "origin")]
    op.create_table(
        "fuses",
        *texts,
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("kind", "title", "state")),
        *(sa.Column(name, sa.Text()) for name in ("import_id", "code", "reason", "alike", "failed")),
        sa.Column("served", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("trips", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger()) for name in ("tripped_at", "read_at", "dies_to", "dies_from", "unheld_to")),
    )
    op.create_index(
        "ix_customer_tasks_held",
        "customer_tasks",
        ["connection", "bucket", "target_id"],
        postgresql_where=sa.text(_IS_HELD),
        sqlite_where=sa.text(_IS_HELD),
    )
