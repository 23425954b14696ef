"""The open customer tasks are counted by deadline, and what was in time and what was late by day."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_QUARTER = 900_000_000  # microseconds
_CELL = ("connection", "bucket", "lane", "rule", "quarter")
_KEY = ", ".join((*_CELL, "entry"))


def upgrade() -> None:
    """Make both tables, and triggers that count each customer task in the transaction which writes it.

    Triggers, because nothing that writes customer tasks can forget them. A later migration that makes the table
    `customer_tasks` anew must make them anew too.
    """
    texts = [sa.Column(name, sa.Text(), nullable=False, primary_key=True) for name in ("connection", "bucket", "rule")]
    op.create_table(
        "deadline_cells",
        *texts[:2],
        sa.Column("lane", sa.SmallInteger(), primary_key=True, autoincrement=False),
        texts[2],
        sa.Column("quarter", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("entry", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("targets", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "deadline_days",
        sa.Column("day", sa.BigInteger(), primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Text(), nullable=False, primary_key=True) for name in ("connection", "rule", "outcome")),
        sa.Column("length", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("entry", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.execute(
        f"INSERT INTO deadline_cells ({_KEY}, targets) SELECT connection, bucket, lane, rule, "  # noqa: S608
        f"deadline / {_QUARTER}, 0, count(*) FROM customer_tasks GROUP BY 1, 2, 3, 4, 5"
    )
    for statement in _SQLITE if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL:
        op.execute(statement)


def _counted(row: str, number: int) -> str:
    """Count one customer task, in SQLite: there is one writer, so all may write the same row."""
    return (
        f"INSERT INTO deadline_cells ({_KEY}, targets) VALUES ({row}.connection, {row}.bucket, {row}.lane, "  # noqa: S608
        f"{row}.rule, {row}.deadline / {_QUARTER}, 0, {number}) "
        f"ON CONFLICT ({_KEY}) DO UPDATE SET targets = targets + {number};"
    )


_COUNTED_BY = ("connection", "bucket", "lane", "rule", "deadline")
_MOVED = " OR ".join(f"OLD.{name} <> NEW.{name}" for name in _COUNTED_BY)
_SQLITE = (
    f"CREATE TRIGGER deadline_cells_added AFTER INSERT ON customer_tasks BEGIN {_counted('NEW', 1)} END",
    f"CREATE TRIGGER deadline_cells_removed AFTER DELETE ON customer_tasks BEGIN {_counted('OLD', -1)} END",
    (
        f"CREATE TRIGGER deadline_cells_moved AFTER UPDATE OF {', '.join(_COUNTED_BY)} ON customer_tasks "
        f"WHEN {_MOVED} BEGIN {_counted('OLD', -1)} {_counted('NEW', 1)} END"
    ),
)

_NUMBER = "CAST(CAST(pg_current_xact_id() AS text) AS bigint)"
_TASK = f"connection, bucket, lane, rule, deadline / {_QUARTER} AS quarter"


def _summed(source: str) -> str:
    """Count many at once, in PostgreSQL: in rows of this transaction's own, so that it waits for no other."""
    return (
        f"INSERT INTO deadline_cells AS cells ({_KEY}, targets) SELECT connection, bucket, lane, rule, quarter, "  # noqa: S608
        f"{_NUMBER}, sum(change) FROM ({source}) AS counted GROUP BY 1, 2, 3, 4, 5 HAVING sum(change) <> 0 "
        f"ON CONFLICT ({_KEY}) DO UPDATE SET targets = cells.targets + excluded.targets;"
    )


_ADDED, _REMOVED = (f"SELECT {_TASK}, {number} AS change FROM {name}" for number, name in ((1, "added"), (-1, "gone")))  # noqa: S608
_POSTGRESQL = (
    f"""
    CREATE FUNCTION count_deadline_cells() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN {_summed(_ADDED)}
        ELSIF TG_OP = 'DELETE' THEN {_summed(_REMOVED)}
        ELSE {_summed(f"{_REMOVED} UNION ALL {_ADDED}")}
        END IF;
        RETURN NULL;
    END $$
    """,
    *(
        f"CREATE TRIGGER deadline_cells_{name} AFTER {event} ON customer_tasks REFERENCING {tables} "
        "FOR EACH STATEMENT EXECUTE FUNCTION count_deadline_cells()"
        for name, event, tables in (
            ("added", "INSERT", "NEW TABLE AS added"),
            ("removed", "DELETE", "OLD TABLE AS gone"),
            ("moved", "UPDATE", "OLD TABLE AS gone NEW TABLE AS added"),
        )
    ),
)
