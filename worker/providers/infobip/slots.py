"""A slot at Infobip: one member of one of a subscription's sets, one of its fields, or an entry of a person's block.

Entries of one person overlap: one without channel or sender blocks on all channels or for all senders.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from consent.ledger.queue.overlaps import Overlap
from consent.outcome import Rejected

SETS = ("events", "criteria", "resources", "users")
FIELD = "field"
BLOCKED = "blocked"

INEXPRESSIBLE = Rejected(
    "under_wider_block",
    "the person is blocked for more than this opt-in names, and Infobip cannot lift a part of a block: opt in with "
    "channel and sender left empty, then opt out of what is to stay blocked",
)

CRITERION_NAMES = {
    "application_id": "applicationId",
    "entity_id": "entityId",
    "calls_configuration_id": "callsConfigurationId",
}
"""Our columns of a criterion, and Infobip's names for them."""


class Slot(NamedTuple):
    """Which set and which member, `field` and which field, or `blocked` and on which channel and for which sender."""

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
    return _listed(*(str(parts.get(name) or "") for name in CRITERION_NAMES.values()))


def criterion(key: str) -> dict[str, str]:
    """Return the criterion that `criterion_key` wrote, as Infobip takes it."""
    return {name: part for name, part in zip(CRITERION_NAMES.values(), json.loads(key), strict=True) if part}


class Place(NamedTuple):
    """Where a person is blocked: on which channel and for which sender, each empty for all."""

    channel: str = ""
    sender: str = ""

    def covers(self, other: Place) -> bool:
        """Say whether this is all of the other, or more."""
        return all(mine in ("", theirs) for mine, theirs in zip(self, other, strict=True))

    def meets(self, other: Place) -> bool:
        """Say whether they have anything in common."""
        return all(mine == theirs or not (mine and theirs) for mine, theirs in zip(self, other, strict=True))


def blocked_text(place: Place) -> str:
    """Write the slot of an entry like `blocked:["SMS","SHOP"]`; that of one that blocks everything is `blocked`."""
    return slot_text(BLOCKED, _listed(*place)) if any(place) else BLOCKED


def read_place(text: str) -> Place | None:
    """Read what `blocked_text` wrote; None for a slot that is no entry."""
    kind, member = read_slot(text)
    if kind != BLOCKED:
        return None
    return Place(*json.loads(member)) if member else Place()


def _listed(*parts: str) -> str:
    # Not escaped: a slot is a key, and keys are limited in bytes.
    return json.dumps(parts, separators=(",", ":"), ensure_ascii=False)


def _covers(wide: str, narrow: str) -> bool:
    one, other = read_place(wide), read_place(narrow)
    return wide == narrow if one is None or other is None else one.covers(other)


def _meets(left: str, right: str) -> bool:
    one, other = read_place(left), read_place(right)
    return left == right if one is None or other is None else one.meets(other)


OVERLAP = Overlap(_covers, _meets, INEXPRESSIBLE)
