"""Numbered targets: everything refers to a target by a number in the order of arrival, and no longer by its hash.

What comes together lies together from then on. Every table that names a target is written anew, in the order in which
its rows came.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_OTHERS = ("attempts", "changes", "customer_tasks", "repeats", "slots")
_TARGETS_ANEW = """
CREATE TABLE anew (
    id INTEGER NOT NULL, target_key BLOB NOT NULL,
    connection TEXT NOT NULL, bucket TEXT NOT NULL, address TEXT NOT NULL,
    PRIMARY KEY (id), UNIQUE (target_key)
)
"""
_SLOTS_ANEW = """
CREATE TABLE anew (
    target_id BIGINT NOT NULL, slot TEXT NOT NULL, newest_id BIGINT NOT NULL, newest_at BIGINT NOT NULL,
    newest_action TEXT NOT NULL, confirmed TEXT, newest_key BLOB,
    PRIMARY KEY (target_id, slot)
) WITHOUT ROWID
"""


def upgrade() -> None:
    """Give every target a number, and let every other table name them by their numbers."""
    if op.get_bind().dialect.name == "sqlite":
        _in_sqlite()
    else:
        _in_postgresql()
    op.create_index("ix_attempts_target", "attempts", ["target_id"], unique=False)


def _in_sqlite() -> None:
    op.drop_index("ix_attempts_target", "attempts")
    named = "target_key, connection, bucket, address"
    _write_anew("targets", _TARGETS_ANEW, named, f"{named} FROM targets ORDER BY rowid")
    said = "slot, newest_id, newest_at, newest_action, confirmed, newest_key"
    numbers = f"targets.id, {said} FROM slots LEFT JOIN targets USING (target_key) ORDER BY targets.id, slot"
    _write_anew("slots", _SLOTS_ANEW, f"target_id, {said}", numbers)
    for name in sorted({*_OTHERS} - {"slots"}):
        # Only a column of this very type numbers the rows of its table.
        kind = sa.Integer() if name == "customer_tasks" else sa.BigInteger()
        op.add_column(name, sa.Column("target_id", kind, nullable=True))
        _name_by_number(name)
        with op.batch_alter_table(name, table_kwargs={"sqlite_with_rowid": name != "repeats"}) as table:
            table.drop_column("target_key")
            table.alter_column("target_id", nullable=False)
            if name == "customer_tasks":
                table.create_primary_key("customer_tasks_pkey", ["target_id"])


def _write_anew(name: str, definition: str, columns: str, source: str) -> None:
    op.execute(definition)
    op.execute(f"INSERT INTO anew ({columns}) SELECT {source}")
    op.drop_table(name)
    op.rename_table("anew", name)


def _in_postgresql() -> None:
    # All at once and first: whoever reads locks one table after the other, and might wait for us as we for them.
    op.execute(f"LOCK TABLE targets, {', '.join(_OTHERS)} IN ACCESS EXCLUSIVE MODE")
    op.drop_index("ix_attempts_target", "attempts")
    op.execute("ALTER TABLE targets ADD COLUMN id BIGSERIAL")
    op.execute("ALTER TABLE targets DROP CONSTRAINT targets_pkey, ADD PRIMARY KEY (id), ADD UNIQUE (target_key)")
    for name in _OTHERS:
        op.add_column(name, sa.Column("target_id", sa.BigInteger(), nullable=True))
        _name_by_number(name)
        op.drop_column(name, "target_key")
        op.alter_column(name, "target_id", nullable=False)
    op.create_primary_key("slots_pkey", "slots", ["target_id", "slot"])
    op.create_primary_key("customer_tasks_pkey", "customer_tasks", ["target_id"])
    for name in _OTHERS:
        op.execute(f"CLUSTER {name} USING {name}_pkey")
        op.execute(f"ANALYZE {name}")


def _name_by_number(table: str) -> None:
    number = f"(SELECT id FROM targets WHERE targets.target_key = {table}.target_key)"  # noqa: S608
    op.execute(f"UPDATE {table} SET target_id = {number}")  # noqa: S608
