"""How the ledger is reached: one engine a process, transactions that write or read, and the key of its hashes."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    ExceptionContext,
    create_engine,
    event,
    literal,
    literal_column,
    select,
    text,
)
from sqlalchemy.exc import DataError, DBAPIError, OperationalError, ProgrammingError

from consent.errors import ConfigurationError, LedgerOutdated, LedgerRefused, LedgerUnavailable
from consent.files import refuse_planted_at
from consent.ledger.dialects.url import connect_options, read_address
from consent.ledger.schema import REVISION, info

T = TypeVar("T")
READ_ONLY = "it takes no writes (read-only): it is a standby, or was switched over; nothing is delivered until it does"
HASH_KEY = "hash_key"
BUSY_SECONDS = 60
_PASSING = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock not available
_REFUSED = ("22", "54")  # classes: data exceptions (a NUL, a number too great), limits (a text too long for an index)
_READ_ONLY = "25006"
_DEPOSED = {_READ_ONLY, "57P01", "57P02", "57P03"}  # takes reads only, is shut down, crashed, starts up
_TRIES = 5


class Database:
    """One ledger's database; it opens no connection before the first use, so it may be made before a fork."""

    def __init__(self, url: str) -> None:
        self.url = read_address(url)
        self._engine: Engine | None = None
        self._pid = 0
        self._hash_key: bytes | None = None

    @property
    def is_sqlite(self) -> bool:
        """Whether the ledger is one file on this machine."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def engine(self) -> Engine:
        """The engine of the process that asks; a child of a fork gets its own."""
        if self._engine is None or self._pid != os.getpid():
            if self._engine is not None:
                self._engine.dispose(close=False)
            self._engine, self._pid = self._make_engine(), os.getpid()
        return self._engine

    def write(self, work: Callable[[Connection], T], *, checked: bool = True) -> T:
        """Run `work` in one writing transaction, again if the database asks for it.

        Raises LedgerUnavailable, LedgerRefused if the database will never take what it was given, and LedgerOutdated if
        someone has migrated the ledger meanwhile (unless not `checked`): a version that was written for another schema
        writes nothing.
        """
        in_doubt: Writing | None = None
        for remaining in reversed(range(_TRIES)):
            writing = Writing(checked=checked)
            try:
                if in_doubt is not None and self._was_committed(in_doubt):
                    return in_doubt.result  # type: ignore[no-any-return]
                with self._transaction(immediate=True) as tx:
                    return writing.run(tx, work)
            except DBAPIError as error:
                if not (remaining and _is_passing(error)):
                    raise _explained(error) from error
                in_doubt = writing if writing.is_in_doubt(error) else in_doubt
                time.sleep(0.05 * (_TRIES - remaining))
            except (UnicodeError, OverflowError, orjson.JSONEncodeError) as error:  # the driver or we cannot write it
                raise LedgerRefused(f"the ledger's database cannot be told: {type(error).__name__}") from error
        raise AssertionError("unreachable")

    def _was_committed(self, writing: Writing) -> bool:
        """Ask the server what became of a transaction whose connection was lost while it was being committed."""
        while True:
            with self._transaction(immediate=False) as tx:
                found = tx.execute(_FATE, {"number": writing.number}).scalar()
            if found != "in progress":
                return bool(found == "committed")
            time.sleep(0.05)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on one consistent view of the ledger; raise LedgerUnavailable."""
        try:
            with self._transaction(immediate=False) as tx:
                return work(tx)
        except DBAPIError as error:
            raise _explained(error) from error

    @property
    def hash_key(self) -> bytes:
        """The secret with which this ledger hashes the names of targets."""
        if self._hash_key is None:
            query = select(info.c.value).where(info.c.name == HASH_KEY)
            self._hash_key = bytes.fromhex(self.read(lambda tx: tx.execute(query).scalar_one()))
        return self._hash_key

    def check_revision(self) -> None:
        """Raise LedgerOutdated, with the remedy, unless the schema is the one this version was written for."""
        check(self.revision())

    def revision(self) -> str | None:
        """Return the revision of the schema, or None for an empty database; raise LedgerUnavailable."""
        try:
            return self.read(lambda tx: tx.execute(text("SELECT version_num FROM alembic_version")).scalar())
        except LedgerUnavailable as error:
            if isinstance(error.__cause__, ProgrammingError) or "no such table" in str(error.__cause__):
                return None
            raise

    def takes_writes(self) -> bool:
        """Return whether the database takes writes: a standby does not; raise LedgerUnavailable."""
        if self.is_sqlite:
            return os.access(str(self.url.database), os.W_OK)
        query = text("SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on'")
        return not self.read(lambda tx: tx.execute(query).scalar_one())

    def close(self) -> None:
        """Close what is open."""
        if self._engine is not None and self._pid == os.getpid():
            self._engine.dispose()
        self._engine = None

    @contextmanager
    def _transaction(self, *, immediate: bool) -> Iterator[Connection]:
        options: dict[str, Any] = {"optrelay_immediate": immediate}
        if not (immediate or self.is_sqlite):
            options["isolation_level"] = "REPEATABLE READ"  # else each statement sees what was committed before it
        with self.engine.execution_options(**options).begin() as connection:
            yield connection

    def _make_engine(self) -> Engine:
        if not self.is_sqlite:
            url, options = connect_options(self.url)
            engine = create_engine(url, pool_pre_ping=True, pool_size=4, connect_args=options)
            event.listen(engine, "handle_error", _forget_deposed_server)
            if "prepare_threshold" not in options:
                event.listen(engine, "connect", _prepare_nothing_behind_pooler)
            return engine
        _make_private(self.url.database)
        engine = create_engine(self.url, connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine


@dataclass(slots=True)
class Writing:
    """One attempt at a writing transaction: its number at the server, and what came out of it."""

    checked: bool
    number: int | None = None
    ready: bool = False
    result: Any = None

    def run(self, tx: Connection, work: Callable[[Connection], T]) -> T:
        """Do the work, once it is seen in the same transaction that the schema is ours; no migration comes between."""
        number = _NUMBER if tx.dialect.name == "postgresql" else literal(None)
        self.number, found = tx.execute(select(number, _REVISION if self.checked else literal(None))).one()
        if self.checked:
            check(found)
        self.result = result = work(tx)
        self.ready = True
        return result

    def is_in_doubt(self, error: DBAPIError) -> bool:
        """Whether the connection was lost so late that the server may have committed."""
        return error.connection_invalidated and self.ready and self.number is not None


_NUMBER: ColumnElement[int] = literal_column("CAST(CAST(pg_current_xact_id() AS text) AS bigint)")
_FATE = text("SELECT pg_xact_status(CAST(CAST(:number AS text) AS xid8))")
_REVISION: ColumnElement[str] = literal_column("(SELECT version_num FROM alembic_version)")


def check(found: str | None) -> None:
    """Raise LedgerOutdated, with the remedy, unless this revision is the one that this version was written for."""
    if found == REVISION:
        return
    if found is not None and found > REVISION:
        message = f"the ledger is at revision {found}, this version needs {REVISION}: start the newer version"
    else:
        state = f"at revision {found}" if found else "empty"
        message = f"the ledger is {state}, this version needs {REVISION}: run `optrelay migrate`"
    raise LedgerOutdated(message)


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


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: the driver's own is deferred, and upgrades end in BUSY
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "wal_autocheckpoint=8000",  # pages: at the default of 1,000 an import writes the same pages again and again
    "journal_size_limit=67108864",  # bytes, to which a log is cut that had grown while others read
    "cache_size=-32768",  # KiB, of which little is used by small ledgers
    "temp_store=MEMORY",
)


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("optrelay_immediate", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _make_private(path: str | None) -> None:
    """Create the file for its owner alone; SQLite gives its companions the same rights."""
    if not path or path == ":memory:":
        raise ConfigurationError("OPTRELAY_LEDGER_URL: the ledger needs a file, a memory database forgets everything")
    with suppress(OSError):
        os.close(os.open(Path(path), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    for companion in ("", "-wal", "-shm", "-journal"):
        with suppress(OSError):  # what SQLite says of it is told in its words
            refuse_planted_at(path + companion, stat.S_IWOTH)


def _is_passing(error: DBAPIError) -> bool:
    if error.connection_invalidated:
        return True
    return getattr(error.orig, "sqlstate", None) in _PASSING


def _is_refused(error: DBAPIError) -> bool:
    """Whether the database refuses what it was given, and would do so at any other time."""
    state = getattr(error.orig, "sqlstate", None)
    return isinstance(error, DataError) if state is None else str(state).startswith(_REFUSED)


def _explained(error: DBAPIError) -> LedgerUnavailable:
    """Say what failed without the statement's parameters, which may name persons."""
    if _is_refused(error):
        return LedgerRefused(f"the ledger's database refuses what it was given: {type(error.orig).__name__}")
    if getattr(error.orig, "sqlstate", None) == _READ_ONLY:
        return LedgerUnavailable(f"the ledger's database says: {READ_ONLY}")
    speaks = isinstance(error, OperationalError) or type(error.orig) is sqlite3.DatabaseError  # the file is damaged
    first = str(error.orig).strip().splitlines()[0] if speaks else type(error.orig).__name__
    return LedgerUnavailable(f"the ledger's database says: {first}")
