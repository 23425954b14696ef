"""Changes beside their target: a change is known again by its target's number and its key, no longer by its key alone.

Keys are hashes: an index of them alone is written all over with every chunk, and the larger a ledger is, the more.
The ids that outsiders were given until now were the keys alone: `ledger_info` remembers up to which change.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COLUMNS = (
    "id, dedupe_key, import_id, line, target_id, slot, action, value, effective_at, details, origin, recorded_at, "
    "state, superseded_by, attempts, code, reason, settled_at, discarded_at"
)
_CHANGES_ANEW = """
CREATE TABLE anew (
    id INTEGER NOT NULL, dedupe_key BLOB NOT NULL, import_id TEXT NOT NULL, line BIGINT, target_id BIGINT NOT NULL,
    slot TEXT NOT NULL, action TEXT NOT NULL, value TEXT NOT NULL, effective_at BIGINT NOT NULL, details TEXT NOT NULL,
    origin TEXT NOT NULL, recorded_at BIGINT NOT NULL, state TEXT NOT NULL, superseded_by BIGINT,
    attempts INTEGER DEFAULT '0' NOT NULL, code TEXT, reason TEXT, settled_at BIGINT, discarded_at BIGINT,
    PRIMARY KEY (id)
)
"""


def upgrade() -> None:
    """Have one index of targets and keys in place of that of keys."""
    if op.get_bind().dialect.name == "postgresql":
        # Whoever writes has read the revision first: so everybody who took it for the old one ends before we begin.
        op.execute("LOCK TABLE alembic_version, imports, changes IN ACCESS EXCLUSIVE MODE")
        op.drop_constraint("changes_dedupe_key_key", "changes")
    else:
        op.execute(_CHANGES_ANEW)
        op.execute(f"INSERT INTO anew ({_COLUMNS}) SELECT {_COLUMNS} FROM changes ORDER BY id")  # noqa: S608 - names of our own
        op.drop_table("changes")
        op.rename_table("anew", "changes")
        op.create_index("ix_changes_import", "changes", ["import_id", "id"], unique=False)
    op.execute("INSERT INTO ledger_info SELECT 'known_by_key_alone_to', coalesce(max(id), 0) FROM changes")
    op.add_column("imports", sa.Column("steps", sa.BigInteger(), server_default="0", nullable=False))
    op.create_index("ix_changes_target", "changes", ["target_id", "dedupe_key"], unique=True)
