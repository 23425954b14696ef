"""A ledger whose clock is a little behind, so that a test can let time pass without coming into the future."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from consent.ledger.ledger import Ledger
from tests.support.clock import Clock
from tests.support.http_server import Server, recently, server


@pytest.fixture
def clock() -> Clock:
    """A clock in the test's hand, two hours behind."""
    clock = Clock()
    clock.micros = recently()
    return clock


@pytest.fixture
def books(tmp_path: object, clock: Clock) -> Iterator[Ledger]:
    """An empty ledger on SQLite, for what does not depend on the database."""
    ledger = Ledger(f"sqlite:///{tmp_path}/books.db", clock=clock)
    ledger.maintenance.migrate()
    yield ledger
    ledger.close()


@pytest.fixture
def served(books: Ledger) -> Iterator[Server]:
    """A server on that ledger."""
    with server(books) as running:
        yield running
