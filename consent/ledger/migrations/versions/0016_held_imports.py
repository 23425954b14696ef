"""An import is checked by guards before it is published, may be held, and is told what people decide about it."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what guards need; imports of before have none, and are published as they are."""
    for name in ("feed", "guards", "findings", "replaces"):
        op.add_column("imports", sa.Column(name, sa.Text(), nullable=True))
    for name in ("checked_at", "optouts", "undone_at"):
        op.add_column("imports", sa.Column(name, sa.BigInteger(), nullable=True))
    op.create_index("ix_imports_feed", "imports", ["feed", "started_at"])
    op.add_column("audit_log", sa.Column("import_id", sa.Text(), nullable=True))
    op.create_index("ix_audit_log_import", "audit_log", ["import_id"])
