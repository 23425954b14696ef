"""Tables and columns have the names of their field: nothing but names changes, and no row is copied."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_TABLES = {
    "connections": "circuit_breakers",
    "interventions": "audit_log",
    "repeats": "noop_changes",
    "said_again": "pending_duplicates",
}
_COLUMNS = {
    "imports": {
        "wishes": "changes",
        "repeated": "noops",
        "folded_to": "merged_to",
        "weighed_to": "noops_merged_to",
        "times": "own_times",
        "stamp_from": "export_time_from",
        "stamp_to": "export_time_to",
    },
    "customer_tasks": {"again": "resend"},
    "circuit_breakers": {"well_at": "healthy_at"},
}


def upgrade() -> None:
    """Rename tables, columns, and what PostgreSQL names after them."""
    for old, new in _TABLES.items():
        op.rename_table(old, new)
    for table, columns in _COLUMNS.items():
        for old, new in columns.items():
            op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")
    op.execute("UPDATE imports SET state = 'merged' WHERE state = 'folded'")
    if op.get_bind().dialect.name == "postgresql":
        for old, new in _TABLES.items():
            op.execute(f"ALTER INDEX IF EXISTS {old}_pkey RENAME TO {new}_pkey")
            op.execute(f"ALTER SEQUENCE IF EXISTS {old}_id_seq RENAME TO {new}_id_seq")
        op.execute("ALTER INDEX ix_interventions_change RENAME TO ix_audit_log_change")
    else:  # SQLite renames no index; what people did is a short list
        op.drop_index("ix_interventions_change", "audit_log")
        op.create_index("ix_audit_log_change", "audit_log", ["change_id"])
