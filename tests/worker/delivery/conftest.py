"""A provider, a worker's parts and a ledger, for the tests of deliveries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consent.ledger.ledger import Ledger
from tests.support.clock import Clock
from tests.support.company import Company, company
from tests.support.worker import wired
from worker.bootstrap import WorkerContext


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Company]:
    """A company with a quick provider."""
    with company(tmp_path) as one:
        yield one


@pytest.fixture
def parts(shop: Company, tmp_path: Path) -> Iterator[WorkerContext]:
    """What a worker process holds."""
    with wired(shop, tmp_path) as worker_context:
        yield worker_context


@pytest.fixture
def books(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    """An empty ledger on SQLite: what breakers do with it is the same on both databases."""
    ledger = Ledger(f"sqlite:///{tmp_path}/books.db", clock=clock)
    ledger.maintenance.migrate()
    yield ledger
    ledger.close()
