"""PostgreSQL: a server that several machines use at the same time, by way of psycopg.

Its planner believes a table to be as small as when it was analysed last. So every writing transaction tells it to look
rows up by key, and large growth is noticed at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, cast

import orjson
from sqlalchemy import (
    URL,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    Select,
    Table,
    any_,
    collate,
    func,
    select,
    text,
)
from sqlalchemy import cast as cast_to
from sqlalchemy.dialects.postgresql import JSON, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from consent.ledger.dialects import Dialect, Read
from consent.ledger.dialects.pool import ONE_VIEW, READ_ONLY, open_engine
from consent.ledger.dialects.statements import Among, Bulk, Held, Row, UpdateEach, plain_rows

T = TypeVar("T")

_PASSING = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock not available
_REFUSED = ("22", "54")  # classes: data exceptions (a NUL, a number too great), limits (a text too long for an index)

_NUMBER = "CAST(CAST(pg_current_xact_id() AS text) AS bigint)"
"""The transaction's number."""


@dataclass(frozen=True, slots=True)
class PostgreSQLBulk(Bulk):
    """PostgreSQL's way with many rows."""

    upsert = staticmethod(insert)
    mark = "%s"
    hashes_groups = True
    upserts_parts = False
    entry = _NUMBER

    def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Row], conflict: str = "") -> int:
        """COPY many rows, by way of a table of this transaction's own if some may be there: faster than executemany.

        One row takes one round trip, where COPY takes three.
        """
        if not rows:
            return 0
        if len(rows) == 1:
            return self._insert_one(table, columns, rows[0], conflict).rowcount
        names = ", ".join(columns)
        if not conflict:
            _copy(self.tx, table.name, names, rows)
            return len(rows)
        source = _copied(self.tx, table, names, rows)
        sql = f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {source} WHERE true {conflict}"  # noqa: S608
        return self.tx.exec_driver_sql(sql).rowcount

    def update_each(self, update: UpdateEach, rows: Sequence[Mapping[str, Any]]) -> None:
        """Pass the values of each name as one list: the driver would look at each element of an array of texts."""
        if not rows:
            return
        types = update.types
        lists = ", ".join(_TEXTS if kind == "text" else f"unnest(%s::{kind}[])" for kind in types.values())
        source = f" FROM ROWS FROM ({lists}) AS given({', '.join(types)})"
        marks = {name: f"given.{name}" for name in types}
        values = tuple(_listed([row[name] for row in rows], kind) for name, kind in types.items())
        self.tx.exec_driver_sql(update.sql.format(source=source, **marks), values)

    def select_by_key(self, columns: str, keys: Sequence[bytes]) -> list[Row]:
        """Pass keys in binary: written out, they cost an eighth of the time in which a dump is read."""
        if not keys:
            return []
        with driver(self.tx, binary=True) as cursor:
            return cast("list[Row]", cursor.execute(f"SELECT {columns} = ANY(%b)", (list(keys),)).fetchall())

    def select_changes(self, columns: str, whose: Collection[tuple[bytes, int]]) -> list[Row]:
        """Look each up by target and dedupe key."""
        if not whose:
            return []
        asked = ([number for _, number in whose], [key for key, _ in whose])
        with driver(self.tx, binary=True) as cursor:
            return cast("list[Row]", cursor.execute(f"SELECT {columns} {_CHANGES}", asked).fetchall())

    def select_registers(self, targets: Sequence[bytes], slots: Sequence[str]) -> dict[int, Held]:
        """Look each up by target key and slot."""
        with driver(self.tx, binary=True) as cursor:
            found = cursor.execute(_REGISTERS, (targets, slots)).fetchall()
        return {row[0]: row[1:] for row in found}

    @staticmethod
    def among_found(column: Column[T], found: Select[tuple[T]]) -> ColumnElement[bool]:
        """Use an array, which is computed once: of a join, the planner may begin with the whole other table."""
        return column == any_(func.array(found.scalar_subquery()))

    def json_text(self, column: Column[str], name: str) -> ColumnElement[str]:
        """Read the text as JSON."""
        found: ColumnElement[str] = cast_to(column, JSON)[name].astext
        return found

    def matches(self, column: Column[str], pattern: str, *, has_letters: bool) -> ColumnElement[bool]:
        """Compare bytes: by the rules of a language, each text would be turned into small letters first."""
        return collate(column, "C").ilike(pattern) if has_letters else collate(column, "C").like(pattern)

    def _notice_growth(self, table: Table, rows: int) -> None:
        """Analyse a table that is believed to be smaller than what has just been put there.

        One that was empty when it was analysed is believed to be so, however it grows, until it is analysed again: for
        a minute or more, in which joins would begin by reading all of it. Only the table's owner may; for others it
        ends in a warning in the server's log.
        """
        if rows >= _NOTICED_FROM and self.tx.execute(_BELIEVED, {"name": table.name}).scalar_one() < rows:
            self.tx.exec_driver_sql(f"ANALYZE (SKIP_LOCKED) {table.name}")


@compiles(Among, "postgresql")
def _among(element: Among, compiler: SQLCompiler, **options: Any) -> str:
    """Cast numbers from their text, with nothing around it: a constant is hashed where each row is compared with it."""
    column, values = element.clauses
    given, name = compiler.process(values), compiler.process(column, **options)
    if isinstance(column.type, Integer):
        return f"{name} = ANY (CAST({given} AS {column.type.compile(compiler.dialect)}[]))"
    return f"{name} = ANY (ARRAY(SELECT json_array_elements_text(CAST({given} AS JSON))))"


class PostgreSQL(Dialect):
    """PostgreSQL's way."""

    bulk = PostgreSQLBulk

    reads: ClassVar = ONE_VIEW
    writes: ClassVar[dict[str, Any]] = {}

    def make_engine(self, url: URL) -> Engine:
        """Return an engine with a few connections."""
        return open_engine(url)

    def begin_writing(self, tx: Connection, *, checked: bool) -> tuple[int | None, str | None]:
        """Do all of it in one statement, and so one round trip."""
        if not checked:
            return tx.exec_driver_sql(f"SELECT {_NUMBER}").scalar_one(), None
        [(number, revision, _)] = plain_rows(tx.exec_driver_sql(_BEGIN))
        return number, revision

    def look_up_by_key(self, tx: Connection) -> None:
        """Switch off what reads whole tables."""
        tx.exec_driver_sql(f"SELECT {_BY_KEY}")

    @contextmanager
    def time_limit(self, tx: Connection, seconds: float) -> Iterator[None]:
        """Tell the server, until the transaction ends."""
        tx.execute(select(func.set_config("statement_timeout", f"{round(1_000 * seconds)}ms", True)))  # noqa: FBT003
        yield

    def transaction_status(self, tx: Connection, number: int) -> str:
        """Ask the server."""
        return str(tx.execute(_TRANSACTION_STATUS, {"number": number}).scalar())

    def takes_writes(self, url: URL, read: Read) -> bool:  # noqa: ARG002 - the server says it
        """Whether the server is no standby and not set to read only."""
        query = "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on'"
        return not read(lambda tx: tx.execute(text(query)).scalar_one())

    def server_time(self, read: Read) -> float | None:
        """Return the server's time in seconds since 1970."""
        query = text("SELECT extract(epoch FROM clock_timestamp())")
        return float(read(lambda tx: tx.execute(query).scalar_one()))

    def is_passing(self, error: DBAPIError) -> bool:
        """Whether the connection was lost, or another transaction was in the way."""
        return bool(error.connection_invalidated) or _state(error) in _PASSING

    def is_refused(self, error: DBAPIError) -> bool:
        """Whether it is the data that the server refuses."""
        state = _state(error)
        return super().is_refused(error) if state is None else state.startswith(_REFUSED)

    def is_read_only(self, error: DBAPIError) -> bool:
        """Whether the server takes reads only."""
        return _state(error) == READ_ONLY


DIALECT = PostgreSQL()

_WAYS = ("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "enable_material", "jit")
# Before version 18 a way that is switched off still has its price, which would set off the compiler of PostgreSQL.
_BY_KEY = " || ".join(f"set_config('{name}', 'off', true)" for name in _WAYS)  # until the transaction ends
_BY_KEY += " || set_config('plan_cache_mode', 'force_custom_plan', true)"
_BEGIN = f"SELECT {_NUMBER}, (SELECT version_num FROM alembic_version), {_BY_KEY}"  # noqa: S608 - words of our own
_TRANSACTION_STATUS = text("SELECT pg_xact_status(CAST(CAST(:number AS text) AS xid8))")
_NOTICED_FROM = 500
# As its planner does: rows for each page when it looked last, times the pages that there are now.
_BELIEVED = text(
    "SELECT CASE WHEN reltuples < 0 THEN 'infinity' WHEN relpages = 0 THEN 'infinity' "
    "ELSE reltuples / relpages * (pg_relation_size(oid) / current_setting('block_size')::int) END "
    "FROM pg_class WHERE oid = CAST(:name AS regclass)"
)
_CHANGES = (
    "FROM unnest(%b::bigint[], %b::bytea[]) AS asked(target, key) "
    "JOIN changes ON target_id = asked.target AND dedupe_key = asked.key"
)
# LIMIT makes each lookup one by the whole key: of a join, the planner may read all slots of a target for each change.
_REGISTERS = """
    SELECT place - 1, whose.id, held.newest_at, held.newest_action, held.newest_key, held.confirmed
    FROM unnest(%b::bytea[], %b::text[]) WITH ORDINALITY AS asked(target, slot, place)
    CROSS JOIN LATERAL (SELECT id FROM targets WHERE target_key = asked.target LIMIT 1) AS whose
    LEFT JOIN LATERAL (
        SELECT newest_at, newest_action, newest_key, confirmed FROM slots
        WHERE target_id = whose.id AND slot = asked.slot LIMIT 1
    ) AS held ON true
"""


@contextmanager
def driver(tx: Connection, **options: bool) -> Iterator[Any]:
    """Give a cursor of the driver; its errors become what SQLAlchemy makes of those of any other statement."""
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


def _state(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


_TEXTS = "json_array_elements_text(%s::json)"


def _listed(values: list[Any], kind: str) -> str:
    listed = orjson.dumps(values).decode()
    return listed if kind == "text" else f"{{{listed[1:-1].replace('null', 'NULL')}}}"


def _copied(tx: Connection, table: Table, names: str, rows: Sequence[Row]) -> str:
    """COPY rows into a table of this transaction's own and return its name."""
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
