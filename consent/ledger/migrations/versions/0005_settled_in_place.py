"""Settled in place: no index holds what becomes of a change, so that settling one writes its row and nothing else.

Dead letters, which are few, are found by a table of their own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ROOM = 50  # percent of a page that PostgreSQL fills before it begins another


def upgrade() -> None:
    """Find an import's changes by its name alone, and dead letters by their numbers."""
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    if is_postgresql:
        # Whoever writes has read the revision first. So everybody who took it for the old one ends before we begin, and
        # no one can bury a change, in the old way, behind our back.
        op.execute("LOCK TABLE alembic_version, changes IN ACCESS EXCLUSIVE MODE")
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table("dead_letters", sa.Column("change_id", number, autoincrement=False, primary_key=True))
    op.execute("INSERT INTO dead_letters SELECT id FROM changes WHERE state = 'dead'")
    op.drop_index("ix_changes_dead", "changes")
    op.drop_index("ix_changes_import_state", "changes")
    op.create_index("ix_changes_import", "changes", ["import_id", "id"], unique=False)
    if is_postgresql:
        for name in ("changes", "slots"):
            op.execute(f"ALTER TABLE {name} SET (fillfactor = {_ROOM})")
