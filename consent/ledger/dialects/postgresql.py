"""PostgreSQL: a server that several machines use at the same time, by way of psycopg.

Its planner believes a table to be as small as when it was analysed last. So every writing transaction tells it to look
rows up by key, and large growth is noticed at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import orjson
from sqlalchemy import (
    ARRAY,
    URL,
    Column,
    ColumnElement,
    Connection,
    Engine,
    ExceptionContext,
    Integer,
    Select,
    Table,
    any_,
    create_engine,
    event,
    func,
    literal,
    literal_column,
    select,
    text,
)
from sqlalchemy import cast as cast_to
from sqlalchemy.dialects.postgresql import JSON, insert
from sqlalchemy.exc import DBAPIError

from consent.ledger.dialects import Dialect, Read, Row
from consent.ledger.dialects.url import connect_options
from consent.ledger.schema import customer_tasks

T = TypeVar("T")

_READ_ONLY = "25006"
_PASSING = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock not available
_REFUSED = ("22", "54")  # classes: data exceptions (a NUL, a number too great), limits (a text too long for an index)
_DEPOSED = {_READ_ONLY, "57P01", "57P02", "57P03"}  # takes reads only, is shut down, crashed, starts up


class PostgreSQL(Dialect):
    """PostgreSQL's way."""

    upsert = staticmethod(insert)

    def make_engine(self, url: URL) -> Engine:
        """Return an engine with a few connections, which leaves a server that takes writes no more."""
        address, options = connect_options(url)
        engine = create_engine(address, pool_pre_ping=True, pool_size=4, connect_args=options)
        event.listen(engine, "handle_error", _forget_deposed_server)
        if "prepare_threshold" not in options:
            event.listen(engine, "connect", _prepare_nothing_behind_pooler)
        return engine

    def options(self, *, writes: bool) -> dict[str, Any]:
        """Let a reader see one view: else each of its statements sees what was committed before it."""
        return {} if writes else {"isolation_level": "REPEATABLE READ"}

    def begin_writing(self, tx: Connection, *, checked: bool) -> tuple[int | None, str | None]:
        """Do all of it in one statement, and so one round trip."""
        if not checked:
            return tx.execute(select(_NUMBER)).scalar_one(), None
        number, revision, *_ = tx.execute(_BEGIN).one()
        return number, revision

    def look_up_by_key(self, tx: Connection) -> None:
        """Switch off what reads whole tables."""
        tx.execute(select(*_BY_KEY))

    @contextmanager
    def time_limit(self, tx: Connection, seconds: float) -> Iterator[None]:
        """Tell the server, until the transaction ends."""
        tx.execute(select(func.set_config("statement_timeout", f"{round(1_000 * seconds)}ms", True)))  # noqa: FBT003
        yield

    def fate(self, tx: Connection, number: int) -> str:
        """Ask the server."""
        return str(tx.execute(_FATE, {"number": number}).scalar())

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
        return _state(error) == _READ_ONLY

    def lock(self, tx: Connection, number: int) -> None:
        """Take an advisory lock."""
        tx.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": number})

    def lock_schema(self, tx: Connection) -> None:
        """Lock the table that every writing transaction reads first: those end before, later ones see what is new."""
        if tx.execute(text("SELECT to_regclass('alembic_version')")).scalar() is not None:
            tx.execute(text("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE"))

    def lock_tasks(self, tx: Connection, targets: Select[tuple[int]]) -> None:
        """Lock the rows, in the order of their numbers, as everything else does."""
        tasks = select(customer_tasks.c.target_id).where(self.among_found(customer_tasks.c.target_id, targets))
        tx.execute(tasks.order_by(customer_tasks.c.target_id).with_for_update())

    def lock_table(self, tx: Connection, table: Table) -> None:
        """Lock it against all but readers."""
        tx.exec_driver_sql(f"LOCK TABLE {table.name} IN SHARE MODE")

    def own_entry(self, tx: Connection) -> int:
        """Return the transaction's number."""
        return tx.execute(select(_NUMBER)).scalar_one()

    def among(self, column: Column[T], values: Sequence[T]) -> ColumnElement[bool]:
        """Pass an array: numbers as one text, which costs the driver nothing."""
        if isinstance(column.type, Integer):
            numbers = orjson.dumps(list(values)).decode()
            return column == any_(cast_to(literal(f"{{{numbers[1:-1]}}}"), ARRAY(column.type)))
        return column == any_(literal(list(values), ARRAY(column.type)))

    def json_text(self, column: Column[str], name: str) -> ColumnElement[str]:
        """Read the text as JSON."""
        found: ColumnElement[str] = cast_to(column, JSON)[name].astext
        return found

    def among_found(self, column: Column[T], found: Select[tuple[T]]) -> ColumnElement[bool]:
        """Use an array, which is computed once: of a join, the planner may begin with the whole other table."""
        return column == any_(func.array(found.scalar_subquery()))

    def insert(self, tx: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row], conflict: str) -> int:
        """COPY many rows into a table of this transaction's own first: twice as fast as executemany."""
        if not rows:
            return 0
        names = ", ".join(columns)
        if len(rows) > 1:
            source = _copied(tx, table, names, rows)
            sql = f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {source} WHERE true {conflict}"  # noqa: S608
            return tx.exec_driver_sql(sql).rowcount
        marks = ", ".join(["%s"] * len(columns))
        sql = f"INSERT INTO {table.name} ({names}) VALUES ({marks}) {conflict}"  # noqa: S608 - names of our own
        return tx.exec_driver_sql(sql, list(rows)).rowcount

    def insert_all(self, tx: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """COPY the rows."""
        _copy(tx, table.name, ", ".join(columns), rows)

    def update_each(
        self, tx: Connection, sql: str, types: Mapping[str, str], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Pass the values as arrays into one statement; texts in binary, so that none has to be escaped."""
        arrays = ", ".join(f"%{'b' if kind == 'text' else 's'}::{kind}[]" for kind in types.values())
        source = f" FROM unnest({arrays}) AS given({', '.join(types)})"
        marks = {name: f"given.{name}" for name in types}
        values = tuple(_array([row[name] for row in rows], kind) for name, kind in types.items())
        tx.exec_driver_sql(sql.format(source=source, **marks), values)

    def select_by_key(self, tx: Connection, columns: str, keys: Sequence[bytes]) -> list[Row]:
        """Pass keys in binary: written out, they cost an eighth of the time in which a dump is read."""
        with driver(tx, binary=True) as cursor:
            return cast("list[Row]", cursor.execute(f"SELECT {columns} = ANY(%b)", (list(keys),)).fetchall())

    def select_changes(self, tx: Connection, columns: str, keys: Sequence[bytes], targets: Sequence[int]) -> list[Row]:
        """Look each up by target and dedupe key."""
        with driver(tx, binary=True) as cursor:
            found = cursor.execute(f"SELECT {columns} {_CHANGES}", (list(targets), list(keys)))
            return cast("list[Row]", found.fetchall())

    def select_registers(self, tx: Connection, targets: Sequence[bytes], slots: Sequence[str]) -> list[Row]:
        """Look each up by target key and slot."""
        with driver(tx, binary=True) as cursor:
            return cast("list[Row]", cursor.execute(_REGISTERS, (targets, slots)).fetchall())

    def notice_growth(self, tx: Connection, table: Table, rows: int) -> None:
        """Analyse a table that is believed to be smaller than what has just been put there.

        One that was empty when it was analysed is believed to be so, however it grows, until it is analysed again: for
        a minute or more, in which joins would begin by reading all of it. Only the table's owner may; for others it
        ends in a warning in the server's log.
        """
        if rows >= _NOTICED_FROM and tx.execute(_BELIEVED, {"name": table.name}).scalar_one() < rows:
            tx.exec_driver_sql(f"ANALYZE (SKIP_LOCKED) {table.name}")


DIALECT = PostgreSQL()

_WAYS = ("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "jit")
# Before version 18 a way that is switched off still has its price, which would set off the compiler of PostgreSQL.
_BY_KEY = (
    *(func.set_config(name, "off", True) for name in _WAYS),  # noqa: FBT003 - until the transaction ends
    func.set_config("plan_cache_mode", "force_custom_plan", True),  # noqa: FBT003
)
_NUMBER: ColumnElement[int] = literal_column("CAST(CAST(pg_current_xact_id() AS text) AS bigint)")
_REVISION: ColumnElement[str] = literal_column("(SELECT version_num FROM alembic_version)")
_BEGIN = select(_NUMBER, _REVISION, *_BY_KEY)
_FATE = text("SELECT pg_xact_status(CAST(CAST(:number AS text) AS xid8))")
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


def _array(values: list[Any], kind: str) -> list[Any] | str:
    if kind == "text":
        return values
    return f"{{{','.join(map(str, values)).replace('None', 'NULL')}}}"  # the driver would adapt each on its own


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


def _forget_deposed_server(context: ExceptionContext) -> None:
    """Close every connection to a server that takes writes no more: a new one may lead to the server that does."""
    if getattr(context.original_exception, "sqlstate", None) in _DEPOSED:
        context.is_disconnect = True


def _prepare_nothing_behind_pooler(connection: Any, _record: object) -> None:
    """Prepare no statements where the server's session may be another one in the next transaction.

    A pooler hands out a number of its own instead of the server process's: so it is known without a setting.
    Source: PgBouncer, "Features" (transaction pooling) and its cancel keys.
    """
    with connection.cursor() as cursor:
        (number,) = cursor.execute("SELECT pg_backend_pid()").fetchone()
    connection.rollback()
    if number != connection.info.backend_pid:
        connection.prepare_threshold = None
