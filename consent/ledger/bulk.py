"""Many rows at once, in the way that each database likes best."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar, cast

import orjson
from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    CursorResult,
    Insert,
    Integer,
    Select,
    Table,
    Update,
    any_,
    bindparam,
    func,
    literal,
    literal_column,
    select,
    text,
)
from sqlalchemy import cast as cast_to
from sqlalchemy.exc import DBAPIError

from consent.ledger.keys import KEY_BYTES

PARAMETERS = 5_000
"""Values in one IN list: well under the limit of either database (SQLite 32,766; PostgreSQL 65,535)."""

Row = tuple[Any, ...]
T = TypeVar("T")


def among(tx: Connection, column: Column[T], values: Sequence[T]) -> ColumnElement[bool]:
    """Say that a column holds one of these values.

    Numbers are one parameter, a list that the database takes apart: a mark for each would cost SQLAlchemy and the
    driver more than the query costs the database, and a text for each number of marks would be planned anew.
    """
    postgresql = tx.dialect.name == "postgresql"
    if isinstance(column.type, Integer):
        numbers = orjson.dumps(list(values)).decode()
        if postgresql:
            return column == any_(cast_to(literal(f"{{{numbers[1:-1]}}}"), ARRAY(column.type)))
        return column.in_(select(func.json_each(numbers).table_valued("value").c.value))
    if postgresql:
        return column == any_(literal(list(values), ARRAY(column.type)))
    # A parameter that holds a list: each value of a plain list would be looked at, and wrapped, on its own.
    return column.in_(bindparam("among", list(values), type_=column.type, unique=True, expanding=True))


def insert_new(tx: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> int:
    """Insert the rows whose keys are not there yet; return how many there were. `rows` are values in column order."""
    return _insert(tx, table, columns, rows, "ON CONFLICT DO NOTHING")


def insert_new_from(tx: Connection, table: Table, columns: Sequence[str], source: Select[Any]) -> int:
    """Do the same with the rows that a query finds; it must have a WHERE."""
    insert = _into(tx, table)
    new = insert.from_select(list(columns), source).on_conflict_do_nothing()
    return tx.execute(new.execution_options(preserve_rowcount=True)).rowcount


def insert_all(tx: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Insert rows of which none can be there yet."""
    if tx.dialect.name == "postgresql":
        _copy(tx, table.name, ", ".join(columns), rows)
    else:
        _insert(tx, table, columns, rows, "")


def select_by_key(tx: Connection, columns: str, keys: Sequence[bytes]) -> list[Row]:
    """Return columns of the rows with these keys; each is looked up, however many there are.

    `columns` is SQL that names the key last: "id FROM targets WHERE target_key"; where it joins, call `look_up_by_key`
    before. It is the driver's own statement: Core would take as long again as the query.
    """
    if not keys:
        return []
    sql = f"SELECT {columns}"
    if tx.dialect.name == "postgresql":
        tx.exec_driver_sql("SET LOCAL enable_seqscan = off")
        # Keys as they are, there and back: written out, they cost an eighth of the time in which a dump is read.
        with driver(tx, binary=True) as cursor:
            return cast("list[Row]", cursor.execute(f"{sql} = ANY(%b)", (list(keys),)).fetchall())
    # All keys are one parameter: the driver keeps statements, and one for each number of marks would fill the memory.
    apart = f"SELECT substr(:keys, place, {KEY_BYTES}) FROM places"  # noqa: S608 - names of our own
    return plain_rows(tx.exec_driver_sql(f"{_PLACES}{sql} IN ({apart})", {"keys": b"".join(keys)}))


_PLACES = (
    f"WITH RECURSIVE places(place) AS (SELECT 1 UNION ALL SELECT place + {KEY_BYTES} FROM places "  # noqa: S608
    f"WHERE place + {KEY_BYTES} <= length(:keys)) "
)


def plain_rows(result: CursorResult[Any]) -> list[Row]:
    """Return the driver's own tuples: SQLAlchemy's rows cost as much as the query."""
    rows = cast("list[Row]", result.cursor.fetchall())
    result.close()
    return rows


def plain_numbers(result: CursorResult[Any]) -> array[int]:
    """Return the numbers of a query for nothing else, eight bytes each, however many there are."""
    numbers = array("q", (number for (number,) in cast("Iterator[tuple[int]]", result.cursor)))
    result.close()
    return numbers


def look_up_by_key(tx: Connection) -> None:
    """Let PostgreSQL look rows up by their keys until this transaction ends, however large the tables seem to be.

    Each statement is planned anew: a plan that was kept since a table was nearly empty may read all of it, and would do
    so until the table is analysed.
    """
    if tx.dialect.name == "postgresql":
        tx.execute(_BY_KEY)


_WAYS = ("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "jit")
# Before version 18 a way that is switched off still has its price, which would set off the compiler of PostgreSQL.
_BY_KEY = select(
    *(func.set_config(name, "off", True) for name in _WAYS),  # noqa: FBT003 - until the transaction ends
    func.set_config("plan_cache_mode", "force_custom_plan", True),  # noqa: FBT003
)


def notice_growth(tx: Connection, table: Table, rows: int) -> None:
    """Let PostgreSQL look how large a table is if it believes it to be smaller than what has just been put there.

    One that it has found empty it believes to be so, however it grows, until it looks again by itself: for a minute or
    more, in which it would begin joins by reading all of it. Of a few rows no one would notice. Who may not look, which
    the table's owner may, leaves it at a warning in the server's log.
    """
    if tx.dialect.name != "postgresql" or rows < _NOTICED_FROM:
        return
    if tx.execute(_BELIEVED, {"name": table.name}).scalar_one() < rows:
        tx.exec_driver_sql(f"ANALYZE (SKIP_LOCKED) {table.name}")


_NOTICED_FROM = 500
# As its planner does: rows for each page when it looked last, times the pages that there are now.
_BELIEVED = text(
    "SELECT CASE WHEN reltuples < 0 THEN 'infinity' WHEN relpages = 0 THEN 'infinity' "
    "ELSE reltuples / relpages * (pg_relation_size(oid) / current_setting('block_size')::int) END "
    "FROM pg_class WHERE oid = CAST(:name AS regclass)"
)


@dataclass(frozen=True, slots=True)
class Renewal:
    """What becomes of a row whose key is there already: columns set to SQL expressions, if `where` says so.

    `excluded.x` is the new value. `where` spares the database rows that would be written as they are.
    """

    values: Mapping[str, str]
    where: str = "true"


def insert_or_update_from(
    tx: Connection, table: Table, columns: Sequence[str], source: Select[Any], renewal: Renewal
) -> int:
    """Insert the rows that a query finds, or renew those that are there; return how many. It must have a WHERE."""
    insert = _into(tx, table)
    said = renewal.values.items()
    values: dict[str, ColumnElement[Any]] = {column: literal_column(expression) for column, expression in said}
    upsert = insert.from_select(list(columns), source).on_conflict_do_update(
        index_elements=list(table.primary_key), set_=values, where=literal_column(renewal.where)
    )
    return tx.execute(upsert.execution_options(preserve_rowcount=True)).rowcount


@dataclass(frozen=True, slots=True)
class UpdateEach:
    """An update of one row for each of many sets of values: `{name}` stands for a value in its SQL.

    `types` names the values, and what PostgreSQL calls their types: there they go as arrays into one statement. No two
    sets may mean the same row.
    """

    table: str
    types: Mapping[str, str]
    values: str
    where: str

    def run(self, tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Update the rows; `look_up_by_key` is to be called before."""
        if not rows:
            return
        if tx.dialect.name != "postgresql":
            marks = {name: f":{name}" for name in self.types}
            tx.exec_driver_sql(self._sql("", marks), rows)
            return
        arrays = ", ".join(f"%{'b' if kind == 'text' else 's'}::{kind}[]" for kind in self.types.values())
        said = f" FROM unnest({arrays}) AS said({', '.join(self.types)})"
        marks = {name: f"said.{name}" for name in self.types}
        tx.exec_driver_sql(self._sql(said, marks), tuple(self._values(name, rows) for name in self.types))

    def _values(self, name: str, rows: Sequence[Mapping[str, Any]]) -> list[str] | str:
        values = [row[name] for row in rows]
        if self.types[name] == "text":
            return values
        return f"{{{','.join(map(str, values)).replace('None', 'NULL')}}}"  # the driver would adapt each on its own

    def _sql(self, said: str, marks: Mapping[str, str]) -> str:
        return f"UPDATE {self.table} SET {self.values}{said} WHERE {self.where}".format_map(marks)  # noqa: S608


Writing = TypeVar("Writing", Insert, Update)


def whole_or_nothing(statement: Writing) -> Writing:
    """Let the transaction end if this statement fails half way, so that SQLite need not keep each page as it was.

    It must not be said inside a savepoint, and no one may go on after it has failed: the transaction is gone.
    """
    return statement.prefix_with("OR ROLLBACK", dialect="sqlite")


def _into(tx: Connection, table: Table) -> Any:
    """Begin an INSERT that can meet rows which are there already; only the dialect that is used is loaded."""
    return import_module(f"sqlalchemy.dialects.{tx.dialect.name}").insert(table)


def portions(values: Sequence[Any], size: int = PARAMETERS) -> Iterator[Sequence[Any]]:
    """Yield `values` in slices that fit into one statement."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _insert(tx: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row], conflict: str) -> int:
    if not rows:
        return 0
    names = ", ".join(columns)
    if tx.dialect.name == "postgresql" and len(rows) > 1:
        source = _copied(tx, table, names, rows)
        sql = f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {source} WHERE true {conflict}"  # noqa: S608
        return tx.exec_driver_sql(sql).rowcount
    # The driver's own executemany is 2.4 times as fast as the same insert through Core's parameter processing.
    mark = "%s" if tx.dialect.name == "postgresql" else "?"
    marks = ", ".join([mark] * len(columns))
    sql = f"INSERT INTO {table.name} ({names}) VALUES ({marks}) {conflict}"  # noqa: S608 - names of our own
    return tx.exec_driver_sql(sql, list(rows)).rowcount


def _copied(tx: Connection, table: Table, names: str, rows: Sequence[Row]) -> str:
    """COPY rows into a table of this transaction's own and return its name: twice as fast as executemany."""
    temporary = f"new_{table.name}"
    tx.exec_driver_sql(
        f"CREATE TEMP TABLE IF NOT EXISTS {temporary} ON COMMIT DROP AS "  # noqa: S608 - names of our own
        f"SELECT {names} FROM {table.name} WITH NO DATA"
    )
    tx.exec_driver_sql(f"TRUNCATE {temporary}")
    _copy(tx, temporary, names, rows)
    return temporary


def _copy(tx: Connection, name: str, names: str, rows: Sequence[Row]) -> None:
    with driver(tx) as cursor, cursor.copy(f"COPY {name} ({names}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


@contextmanager
def driver(tx: Connection, **options: bool) -> Iterator[Any]:
    """Give a cursor of PostgreSQL's driver; its errors become what SQLAlchemy makes of those of any other statement."""
    cursor = tx.connection.cursor(**options)
    try:
        yield cursor
    except tx.dialect.loaded_dbapi.Error as error:
        lost = tx.dialect.is_disconnect(error, tx.connection.dbapi_connection, cursor)
        if lost:
            tx.invalidate(error)
        raise DBAPIError.instance(
            None, None, error, tx.dialect.loaded_dbapi.Error, connection_invalidated=lost, dialect=tx.dialect
        ) from error
