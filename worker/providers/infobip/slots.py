"""A slot at Infobip: one member of one of a subscription's sets, one of its fields, or a person's blocklist entry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

SETS = ("events", "criteria", "resources", "users")
FIELD = "field"
BLOCKED = "blocked"

CRITERION_NAMES = {
    "application_id": "applicationId",
    "entity_id": "entityId",
    "calls_configuration_id": "callsConfigurationId",
}
"""Our columns of a criterion, and Infobip's names for them."""


class Slot(NamedTuple):
    """Which set and which member, `field` and which field, or `blocked`."""

    kind: str
    member: str = ""


def slot_text(kind: str, member: str) -> str:
    """Write a slot like `events:DELIVERY`, `field:name` or `criteria:["production","entity1",""]`."""
    return f"{kind}:{member}"


def read_slot(text: str) -> Slot:
    """Read what `slot_text` wrote."""
    kind, _, member = text.partition(":")
    return Slot(kind, member)


def criterion_key(parts: Mapping[str, Any]) -> str:
    """Return the one text of a criterion, by Infobip's names; a part that is absent or empty matches anything."""
    return json.dumps([str(parts.get(name) or "") for name in CRITERION_NAMES.values()], separators=(",", ":"))


def criterion(key: str) -> dict[str, str]:
    """Return the criterion that `criterion_key` wrote, as Infobip takes it."""
    return {name: part for name, part in zip(CRITERION_NAMES.values(), json.loads(key), strict=True) if part}
