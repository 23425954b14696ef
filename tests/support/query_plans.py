"""What a database would do to carry out a statement: its own plans."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, event

from consent.ledger.dialects import dialect_named


def plans(engine: Engine, statements: list[tuple[str, object]], *, by_key: bool = False) -> list[str]:
    """Return how the database would carry these statements out; `by_key` as those who say so before."""
    explain = "EXPLAIN" if engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    found = []
    with engine.connect() as connection:
        if by_key:
            dialect_named(engine.dialect.name).look_up_by_key(connection)
        for statement, parameters in statements:
            rows = connection.exec_driver_sql(f"{explain} {statement}", parameters).all()
            found.append("\n".join(str(row[-1]) for row in rows))
    return found


def log_statements(engine: Engine) -> list[tuple[str, object]]:
    """Listen to what is said to the database from now on."""
    statements: list[tuple[str, object]] = []

    def note(_c: Connection, _cursor: object, statement: str, parameters: object, _x: object, many: bool) -> None:  # noqa: FBT001 - SQLAlchemy's shape
        if statement.split(maxsplit=1)[0] in {"SELECT", "UPDATE", "DELETE"}:
            statements.append((statement, parameters[0] if many else parameters))  # type: ignore[index]

    event.listen(engine, "before_cursor_execute", note)
    return statements


TABLES = ("customer_tasks", "changes", "slots", "targets")


def is_scan(plan: str) -> bool:
    """Say whether a table that grows would be read from end to end."""
    return any(scan in plan for table in TABLES for scan in (f"SCAN {table}", f"Seq Scan on {table}"))


def reads_whole(plan: str) -> bool:
    """Say the same, or that all of an index would be read, which PostgreSQL does where it may not read the table."""
    return is_scan(plan) or any(
        f" on {table}" in node and "Index" in node.partition(" on ")[0] and "Index Cond:" not in node
        for node in plan.split("->")
        for table in TABLES
    )
