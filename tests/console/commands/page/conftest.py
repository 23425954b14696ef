"""A ledger with something to decide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consent.ledger.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger in a file."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.maintenance.prepare()
    yield ledger
    ledger.close()
