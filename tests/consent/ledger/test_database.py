"""One engine a process: whichever thread comes first, none is left open and forgotten."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import URL, Engine, update

from consent.ledger.database import Database
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
