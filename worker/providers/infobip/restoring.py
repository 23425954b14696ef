"""From what the ledger holds of a change back to the columns that it was read from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from worker.providers.infobip.slots import CRITERION_NAMES, FIELD, read_place, read_slot


def columns_of_change(address: Mapping[str, str], slot: str, details: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns of a row that names only this slot."""
    kind, member = read_slot(slot)
    if (to := address.get("destination", "")).isdigit():
        address = {**address, "destination": f"+{to}"}  # without + it would be read as a number of REGION
    if (place := read_place(slot)) is not None:
        return {**address, **{name: part for name, part in place._asdict().items() if part}}
    if kind == FIELD:
        return {**address, **{name: str(value) for name, value in details.items()}}
    if kind == "criteria":
        parts = zip(CRITERION_NAMES, json.loads(member), strict=True)
        return {**address, **{name: part for name, part in parts if part}}
    return {**address, kind: member}
