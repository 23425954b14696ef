"""An intake of events on an empty ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consent.ledger.ledger import Ledger
from tests.support.event_intake import Taker


@pytest.fixture
def taker(tmp_path: Path) -> Iterator[Taker]:
    """An intake on an empty SQLite ledger, where the database makes no difference."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.maintenance.migrate()
    yield Taker(ledger)
    ledger.close()
