"""From what the ledger holds of a change back to the columns that it was read from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.providers.capillary.slots import read_slot


def columns_of_change(address: Mapping[str, str], slot: str, details: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns of a row that means the same: read again, it gives the same target, slot and details."""
    parts = read_slot(slot)
    place = {
        "channel": parts.channel,
        "priority": parts.priority,
        "account_id": parts.account,
        "org_unit_id": str(parts.org_unit),
    }
    return {**address, **place, **{name: str(value) for name, value in details.items()}}
