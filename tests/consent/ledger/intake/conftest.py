"""What several tests of the intake share."""

from __future__ import annotations

import pytest

from consent.ledger.ledger import Ledger
from tests.support.ledgers import moment


@pytest.fixture
def half_past_eight(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is delivered is confirmed at half past eight; changes of later minutes are newer than that."""
    monkeypatch.setattr(ledger, "now", lambda: moment(30))
