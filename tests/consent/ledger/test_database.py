"""One engine a process: whichever thread comes first, none is left open and forgotten."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import URL, Engine

from consent.ledger.database import Database


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
