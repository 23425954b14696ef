"""SQLite: one file on this machine, with one writer at a time.

So locks are nothing but the transaction itself, and no planner has to be told how large a table is.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import orjson
from sqlalchemy import (
    URL,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Select,
    Table,
    create_engine,
    event,
    func,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from consent.errors import ConfigurationError
from consent.files import refuse_planted_at
from consent.ledger.dialects import Dialect, Read
from consent.ledger.dialects.statements import Among, Bulk, Held, Row, UpdateEach, plain_rows
from consent.ledger.keys import KEY_BYTES

T = TypeVar("T")

BUSY_SECONDS = 60

LONG_SECONDS = 5.0
"""A transaction that waits longer for its turn says so: without that, a worker would stand still in silence."""

_log = logging.getLogger(__name__)
_STEPS = 10_000  # of its virtual machine, between two looks at the time: less than a millisecond


@dataclass(frozen=True, slots=True)
class SQLiteBulk(Bulk):
    """SQLite's way with many rows."""

    upsert = staticmethod(insert)
    mark = "?"
    hashes_groups = False
    upserts_parts = True
    entry = "0"  # the same for all: there is one writer

    def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Row], conflict: str = "") -> int:
        """Use the driver's executemany, 2.4 times as fast as the same insert through Core's parameter processing."""
        if not rows:
            return 0
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        sql = f"INSERT INTO {table.name} ({names}) VALUES ({marks}) {conflict}"  # noqa: S608 - names of our own
        return self.tx.exec_driver_sql(sql, list(rows)).rowcount

    def update_each(self, update: UpdateEach, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run the statement once for each row, in the driver."""
        if rows:
            marks = {name: f":{name}" for name in update.types}
            self.tx.exec_driver_sql(update.sql.format(source="", **marks), rows)

    def select_by_key(self, columns: str, keys: Sequence[bytes]) -> list[Row]:
        """Pass all keys as one parameter: a statement for each number of marks would fill the driver's memory."""
        if not keys:
            return []
        apart = f"SELECT substr(:keys, place, {KEY_BYTES}) FROM places"  # noqa: S608 - names of our own
        found = self.tx.exec_driver_sql(f"{_PLACES}SELECT {columns} IN ({apart})", {"keys": b"".join(keys)})
        return plain_rows(found)

    def select_changes(self, columns: str, whose: Collection[tuple[bytes, int]]) -> list[Row]:
        """Look each up by target and dedupe key."""
        if not whose:
            return []
        targets = orjson.dumps([number for _, number in whose]).decode()
        asked = {"targets": targets, "keys": b"".join([key for key, _ in whose])}
        return plain_rows(self.tx.exec_driver_sql(f"SELECT {columns} {_CHANGES}", asked))

    def select_registers(self, targets: Sequence[bytes], slots: Sequence[str]) -> dict[int, Held]:
        """Look each up by target key and slot."""
        asked = {"slots": orjson.dumps(slots).decode(), "keys": b"".join(targets)}
        return {row[0]: row[1:] for row in plain_rows(self.tx.exec_driver_sql(_REGISTERS, asked))}

    @staticmethod
    def among_found(column: Column[T], found: Select[tuple[T]]) -> ColumnElement[bool]:
        """Use a subquery."""
        return column.in_(found)

    def json_text(self, column: Column[str], name: str) -> ColumnElement[str]:
        """Use a path."""
        return func.json_extract(column, f"$.{name}")

    def matches(self, column: Column[str], pattern: str, *, has_letters: bool) -> ColumnElement[bool]:  # noqa: ARG002
        """Use LIKE, which never looks at the case of ASCII letters here."""
        return column.like(pattern)


@compiles(Among, "sqlite")
def _among(element: Among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = element.clauses
    name, given = compiler.process(column, **options), compiler.process(values)
    return f"{name} IN (SELECT value FROM json_each({given}))"  # noqa: S608 - a parameter


class SQLite(Dialect):
    """SQLite's way."""

    bulk = SQLiteBulk

    reads: ClassVar = {"optrelay_immediate": False}  # for `_begin`
    writes: ClassVar = {"optrelay_immediate": True}

    def make_engine(self, url: URL) -> Engine:
        """Return an engine for a file, which is created for its owner alone."""
        _make_private(url.database)
        engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        event.listen(engine, "close", _take_back)
        return engine

    def begin_writing(self, tx: Connection, *, checked: bool) -> tuple[int | None, str | None]:
        """Return the schema's revision: a commit is known to the process that makes it."""
        query = "SELECT version_num FROM alembic_version"
        return None, tx.exec_driver_sql(query).scalar() if checked else None

    def look_up_by_key(self, tx: Connection) -> None:
        """Do nothing: SQLite uses an index wherever there is one."""

    @contextmanager
    def time_limit(self, tx: Connection, seconds: float) -> Iterator[None]:
        """Have SQLite ask now and then whether to go on."""
        driver: Any = tx.connection.dbapi_connection
        ends = time.monotonic() + seconds
        # Not a function in Python: a signal that came within it would be lost, for SQLite drops what it raises.
        driver.set_progress_handler(map(ends.__lt__, iter(time.monotonic, None)).__next__, _STEPS)
        try:
            yield
        finally:
            with suppress(sqlite3.ProgrammingError):  # a signal has ended the query, and so its connection is closed
                driver.set_progress_handler(None, 0)

    def transaction_status(self, tx: Connection, number: int) -> str:  # noqa: ARG002 - there is no number
        """Return "aborted": what was not committed is gone."""
        return "aborted"

    def takes_writes(self, url: URL, read: Read) -> bool:  # noqa: ARG002 - the file says it
        """Whether the file may be written."""
        return os.access(str(url.database), os.W_OK)

    def server_time(self, read: Read) -> float | None:
        """Return None."""


DIALECT = SQLite()

_PLACES = (
    f"WITH RECURSIVE places(place) AS (SELECT 1 UNION ALL SELECT place + {KEY_BYTES} FROM places "  # noqa: S608
    f"WHERE place + {KEY_BYTES} <= length(:keys)) "
)
# A CROSS JOIN is done in the order in which it is written: never all changes first.
_CHANGES = (
    "FROM json_each(:targets) AS asked CROSS JOIN changes "
    f"ON target_id = asked.value AND dedupe_key = substr(:keys, asked.key * {KEY_BYTES} + 1, {KEY_BYTES})"
)
_REGISTERS = f"""
    SELECT asked.key, targets.id, newest_at, newest_action, newest_key, confirmed
    FROM json_each(:slots) AS asked
    CROSS JOIN targets ON target_key = substr(:keys, asked.key * {KEY_BYTES} + 1, {KEY_BYTES})
    LEFT JOIN slots ON slots.target_id = targets.id AND slots.slot = asked.value
"""  # noqa: S608 - names of our own
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "wal_autocheckpoint=8000",  # pages: at the default of 1,000 an import writes the same pages again and again
    "journal_size_limit=67108864",  # bytes, to which a log is cut that had grown while others read
    "cache_size=-32768",  # KiB, of which little is used by small ledgers
    "temp_store=MEMORY",
)


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: the driver's own is deferred, and upgrades end in BUSY
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    if not connection.get_execution_options().get("optrelay_immediate", True):
        connection.exec_driver_sql("BEGIN")
        return
    asked = time.monotonic()
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    if (waited := time.monotonic() - asked) > LONG_SECONDS:
        _log.warning("another process kept the ledger locked for %.0f seconds; this one waited, and goes on", waited)


def _take_back(connection: sqlite3.Connection, _record: object) -> None:
    """Take back what was not committed: a closed connection keeps its locks for as long as a query of it is held."""
    with suppress(sqlite3.Error):
        connection.rollback()


def _make_private(path: str | None) -> None:
    """Create the file for its owner alone; SQLite gives its companions the same rights."""
    if not path or path == ":memory:":
        raise ConfigurationError("OPTRELAY_LEDGER_URL: the ledger needs a file, a memory database forgets everything")
    with suppress(OSError):
        os.close(os.open(Path(path), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    for companion in ("", "-wal", "-shm", "-journal"):
        with suppress(OSError):  # what SQLite says of it is told in its words
            refuse_planted_at(path + companion, stat.S_IWOTH)
