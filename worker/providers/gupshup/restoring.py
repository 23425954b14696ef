"""From what the ledger holds of a change back to the columns that it was read from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.providers.gupshup.slots import MODES, read_slot


def columns_of_change(address: Mapping[str, str], slot: str, details: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns of a row that names only this slot."""
    kind, member = read_slot(slot)
    modes = {MODES: member} if kind == MODES else {}
    return {**address, **modes, **{name: str(value) for name, value in details.items()}}
