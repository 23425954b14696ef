"""A watched folder, and a ledger on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consent.ledger.ledger import Ledger


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that is watched."""
    made = tmp_path / "drop"
    made.mkdir()
    return made


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger on this machine."""
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    made.maintenance.prepare()
    yield made
    made.close()
