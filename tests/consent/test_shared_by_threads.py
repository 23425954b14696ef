"""A ledger's database object is shared by all threads of a process: what one changes, another one reads whole."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine, text

from consent.errors import LedgerUnavailable
from consent.ledger import database as databases
from consent.ledger.database import Database


def test_threads_that_come_first_after_a_fork_forget_the_parents_engine_together(ledger_url: str) -> None:
    """Both found it, and the second one failed because it was gone."""
    database, both = Database(ledger_url), threading.Barrier(2, timeout=10)
    parents = Engines({0: database.dialect.make_engine(database.url)}, both)
    database._engines = parents

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: database.engine, range(2))

    assert first is second is database.engine
    assert 0 not in parents
    first.dispose()


class Engines(dict[int, Engine]):
    """Engines by process, which two threads begin to forget at the same moment."""

    def __init__(self, found: dict[int, Engine], both: threading.Barrier) -> None:
        super().__init__(found)
        self.both = both

    def pop(self, *asked):
        """Wait for the other thread."""
        self.both.wait()
        return super().pop(*asked)


def test_the_time_is_told_whole_while_another_thread_asks_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an hour in which no one asked, a thread got a time of an hour ago: its change was older than all others."""
    now, asked, answers = 0.0, threading.Event(), threading.Event()

    def server_time(_read: object) -> float:
        asked.set()
        assert answers.wait(10)
        return 1_000_000.0 + now

    def monotonic() -> float:
        """Let the other thread have its answer in the middle of a look at the clock: before its second reading."""
        if other.ident is not None and threading.current_thread() is not other:
            readings.append(now)
            if len(readings) == 2:
                answers.set()
                other.join(10)
        return now

    readings: list[float] = []
    clock = databases.ServerClock(SimpleNamespace(dialect=SimpleNamespace(server_time=server_time), read=None))  # type: ignore[arg-type]
    other = threading.Thread(target=clock)
    monkeypatch.setattr(databases.time, "monotonic", monotonic)
    answers.set()
    assert clock() == 1_000_000 * 1_000_000

    now = 3600.0
    asked.clear()
    answers.clear()
    other.start()
    asked.wait(10)

    assert clock() == (1_000_000 + 3600) * 1_000_000


def test_a_thread_for_which_no_connection_is_left_is_told_that_the_ledger_is_away(ledger_url: str) -> None:
    """It said that our code was at fault: events were then recorded one by one, and each waited for half a minute."""
    database = Database(ledger_url)
    database.engine.pool._timeout = 0.1
    with ExitStack() as held:
        for _ in range(database.engine.pool.size() + database.engine.pool._max_overflow):
            held.enter_context(database._transaction(writes=False))
        for ask in (database.read, database.write):
            with pytest.raises(LedgerUnavailable):
                ask(lambda tx: tx.execute(text("SELECT 1")).scalar())
    assert database.read(lambda tx: tx.execute(text("SELECT 1")).scalar()) == 1
    database.close()
