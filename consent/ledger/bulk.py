"""Many rows at once, in the way that each database likes best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Executable, Table
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

PARAMETERS = 5_000
"""Values in one IN list: well under the limit of either database (SQLite 32,766; PostgreSQL 65,535)."""

Row = tuple[Any, ...]


def insert_new(tx: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> int:
    """Insert the rows whose keys are not there yet; return how many there were. `rows` are values in column order."""
    if not rows:
        return 0
    if tx.dialect.name == "sqlite":
        return _rowcount(tx, _sqlite_insert(table, tuple(columns)), rows)
    return _copy_new(tx, table, columns, rows)


def run_many(tx: Connection, statement: Executable, rows: Sequence[dict[str, Any]]) -> int:
    """Run one statement for each set of parameters; return how many rows it touched in all."""
    return tx.execute(statement, rows).rowcount if rows else 0


def portions(values: Sequence[Any], size: int = PARAMETERS) -> Iterator[Sequence[Any]]:
    """Yield `values` in slices that fit into one statement."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


@lru_cache(maxsize=64)
def _sqlite_insert(table: Table, columns: tuple[str, ...]) -> str:
    statement = sqlite_insert(table).on_conflict_do_nothing()
    return str(statement.compile(dialect=sqlite_dialect(), column_keys=list(columns)))


def _rowcount(tx: Connection, sql: str, rows: Sequence[Row]) -> int:
    # The driver's own executemany is 2.4 times as fast as the same insert through Core's parameter processing.
    return tx.exec_driver_sql(sql, list(rows)).rowcount


def _copy_new(tx: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> int:
    """COPY into a table of this transaction's own, then insert what is new: twice as fast as executemany."""
    names, temporary = ", ".join(columns), f"new_{table.name}"
    tx.exec_driver_sql(
        f"CREATE TEMP TABLE IF NOT EXISTS {temporary} ON COMMIT DELETE ROWS AS "  # noqa: S608 - our own names
        f"SELECT {names} FROM {table.name} WITH NO DATA"
    )
    tx.exec_driver_sql(f"TRUNCATE {temporary}")
    cursor = tx.connection.cursor()
    with cursor.copy(f"COPY {temporary} ({names}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
    return tx.exec_driver_sql(
        f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {temporary} ON CONFLICT DO NOTHING"  # noqa: S608
    ).rowcount
