"""One engine a process: whichever thread comes first, none is left open and forgotten.

Connections to PostgreSQL that end while no process uses them are not used again.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection, Engine, create_engine, select, text, update

from consent.errors import LedgerRefused, LedgerUnavailable
from consent.ledger import database as databases
from consent.ledger.database import Database
from consent.ledger.dialects import sqlite
from consent.ledger.ledger import Ledger
from consent.ledger.schema import info


def test_threads_that_come_first_together_share_one_engine(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two engines were made, and the connection that the forgotten one had opened was never closed."""
    database, both = Database(ledger_url), threading.Barrier(2, timeout=10)
    make = database.dialect.make_engine

    def made_together(url: URL) -> Engine:
        engine = make(url)
        both.wait()
        return engine

    monkeypatch.setattr(database.dialect, "make_engine", made_together)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: database.engine, range(2))

    assert first is second is database.engine
    database.close()


def test_a_transaction_that_a_signal_cut_off_locks_no_one_out(ledger_url: str) -> None:
    """SIGTERM came between BEGIN and the work: a run waited a minute for itself before it ended."""
    cut, other = Database(ledger_url), Database(ledger_url)
    try:
        begun = cut._transaction(writes=True)
        begun.__enter__().execute(update(info).values(value=info.c.value))
        cut.close()
        started = time.monotonic()
        other.write(lambda tx: tx.execute(update(info).values(value=info.c.value)))
        assert time.monotonic() - started < 20  # SQLite waits for sixty
        del begun
    finally:
        other.close()


_LONG = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500000000) SELECT i"
_LONG += " FROM n WHERE i > 499999000"
_WAITS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT wait() UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT i"
    " FROM n WHERE i > 99000",
    "postgresql": "SELECT pg_sleep(5)",
}


@pytest.fixture
def ended_within(monkeypatch: pytest.MonkeyPatch):
    """What runs a query that waits while a signal comes that ends us, as SIGTERM and Ctrl-C do."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 2)
    has_come = threading.Lock()
    has_come.acquire()

    def ended(*_: object) -> None:
        raise SystemExit(143)

    def come() -> None:
        signal.raise_signal(signal.SIGUSR1)  # in this thread, so that it does not end the wait of the other one
        has_come.release()

    def waiting(tx: Connection) -> int | None:
        if tx.dialect.name == "sqlite":  # it waits without Python, which would look for signals
            tx.connection.driver_connection.create_function("wait", 0, has_come.acquire)
        threading.Timer(0.1, come).start()
        return tx.execute(text(_WAITS[tx.dialect.name])).scalar()

    before = signal.signal(signal.SIGUSR1, ended)
    yield waiting
    signal.signal(signal.SIGUSR1, before)


def test_a_query_that_a_signal_cut_off_locks_no_one_out(
    ledger_url: str, ended_within: Callable[[Connection], int | None]
) -> None:
    """Its rows had not been fetched, so SQLite kept the transaction of a connection that was closed: a run waited."""
    cut, other = Database(ledger_url), Database(ledger_url)
    try:
        with pytest.raises(SystemExit) as ends:  # what unwinds holds the query
            cut.write(ended_within)
        cut.close()
        other.write(lambda tx: tx.execute(update(info).values(value=info.c.value)))
        assert ends.value.code == 143
    finally:
        other.close()


def test_a_signal_ends_a_look_that_may_take_only_so_long(
    ledger_url: str, ended_within: Callable[[Connection], int | None]
) -> None:
    """Ctrl-C came as SQLite asked whether to go on: the look failed instead, and the run went on."""
    database = Database(ledger_url)
    try:
        with pytest.raises(SystemExit):
            database.read(ended_within, within=60.0)
    finally:
        database.close()


def test_a_look_ends_when_its_time_is_over(ledger_url: str) -> None:
    """No one waits for a figure that takes a large ledger minutes."""
    database, started = Database(ledger_url), time.monotonic()
    try:
        with pytest.raises(LedgerUnavailable):
            database.read(lambda tx: tx.execute(text(_LONG)).scalar(), within=0.1)
    finally:
        database.close()
    assert time.monotonic() - started < 20


def test_a_transaction_that_waited_for_long_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Workers stood still for a minute, and nothing told that someone else had locked the ledger meanwhile."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setattr(sqlite, "LONG_SECONDS", 0.2)
    holder, waiting = Database(url), Database(url)
    try:
        with ThreadPoolExecutor(1) as threads, holder._transaction(writes=True):
            waits = threads.submit(waiting.write, lambda tx: tx.execute(text("CREATE TABLE its (own)")), checked=False)
            time.sleep(0.5)
            assert not waits.done()
        waits.result(10)
    finally:
        holder.close()
        waiting.close()

    assert [one.levelname for one in caplog.records] == ["WARNING"]
    assert "kept the ledger locked" in caplog.text


def test_a_ledger_is_closed_while_other_threads_use_it(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them begins a transaction at that very moment; neither it nor the closing breaks off."""
    database, ident, closing = Database(ledger_url), databases.get_ident, threading.current_thread()
    begun, more, closed = threading.Barrier(2), threading.Event(), threading.Event()

    def reads() -> bool:
        with database._transaction(writes=False) as tx:
            tx.detach()  # so that it is closed in the end, and not given back to a pool that is no more
            begun.wait(30)
            return closed.wait(30) and tx.execute(select(info).limit(1)).first() is not None

    def one_more() -> int:
        if threading.current_thread() is closing and not more.is_set():
            more.set()
            others.append(threads.submit(reads))
            begun.wait(30)
        return ident()

    with ThreadPoolExecutor(2) as threads:
        others = [threads.submit(reads)]
        begun.wait(30)
        monkeypatch.setattr(databases, "get_ident", one_more)
        try:
            database.close()
        finally:
            closed.set()
        assert [one.result(30) for one in others] == [True, True]
    database.close()


def test_what_no_database_can_be_asked_for_is_refused(ledger: Ledger) -> None:
    """Half of a character is in no ledger: the question ended with an error of the driver, which no caller expects."""
    for ask in (ledger.review.held_import, ledger.queries.report, ledger.review.plan_undo):
        with pytest.raises(LedgerRefused):
            ask("\ud800")


_ASKED = text("SELECT pg_backend_pid()")


@pytest.fixture
def server(ledger_url: str):
    """A ledger's database on a server."""
    found = Database(ledger_url)
    if found.is_sqlite:
        pytest.skip("SQLite has no server")
    yield found
    found.close()


def backend(database: Database) -> int:
    """Return which process of the server serves this one."""
    return database.read(lambda tx: tx.execute(_ASKED).scalar_one())


def end(database: Database, number: int) -> None:
    """End a process of the server, as an operator does or a restart, and wait until it is gone."""
    other = create_engine(database.url)
    with other.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:number, 10000)"), {"number": number})
    other.dispose()


def test_a_connection_that_the_server_has_just_ended_is_not_used(server: Database) -> None:
    """It was used a moment ago, so it was not asked whether it lives: the read failed, and the page showed an error."""
    first = backend(server)
    assert backend(server) == first
    end(server, first)

    assert backend(server) != first


def test_a_connection_that_was_idle_for_long_is_asked_first(server: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall forgets it without a word; nothing can be read from it, and still another one is taken."""
    first = backend(server)
    end(server, first)
    monkeypatch.setattr("consent.ledger.dialects.pool._BELIEVED_SECONDS", 0.0)
    monkeypatch.setattr("consent.ledger.dialects.pool._can_be_read", lambda _connection: False)

    assert backend(server) != first


def test_a_read_sees_one_moment_and_a_write_what_is_committed(server: Database) -> None:
    """Both use the same connection, one after the other: what it may see is set for each."""
    level = text("SHOW transaction_isolation")

    for _ in range(2):
        assert server.read(lambda tx: tx.execute(level).scalar()) == "repeatable read"
        assert server.write(lambda tx: tx.execute(level).scalar()) == "read committed"
    with server.engine.connect() as connection:
        assert connection.execute(select(info).limit(1)).first() is not None
        assert connection.execute(level).scalar() == "read committed"
