"""A slot of a person on Infobip's blocklist: the channel and the sender of an entry, and how such slots overlap.

An entry without channel or sender blocks on all channels or for all senders.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from consent.identifiers.normalize import (
    UnusableIdentifier,
    clean,
    is_email,
    refuse_lookalikes,
    refuse_rounded,
    without_scheme,
)
from consent.identifiers.phones import read_number
from consent.identifiers.suppression import Question, SuppressionRules
from consent.ledger.queue.overlaps import Overlap
from consent.outcome import PermanentFailure

BLOCKED = "blocked"

INEXPRESSIBLE = PermanentFailure(
    "under_wider_block",
    "the person is blocked for more than this opt-in names, and Infobip cannot lift a part of a block: opt in with "
    "channel and sender left empty, then opt out of what is to stay blocked",
)


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
    # Not escaped: a slot is a key, and keys are limited in bytes.
    return f"{BLOCKED}:{json.dumps(place, separators=(',', ':'), ensure_ascii=False)}" if any(place) else BLOCKED


def read_place(slot: str) -> Place | None:
    """Read what `blocked_text` wrote; None for a slot that is no entry."""
    kind, _, member = slot.partition(":")
    if kind != BLOCKED:
        return None
    return Place(*json.loads(member)) if member else Place()


def _covers(wide: str, narrow: str) -> bool:
    one, other = read_place(wide), read_place(narrow)
    return wide == narrow if one is None or other is None else one.covers(other)


def _meets(left: str, right: str) -> bool:
    one, other = read_place(left), read_place(right)
    return left == right if one is None or other is None else one.meets(other)


OVERLAP = Overlap(_covers, _meets, INEXPRESSIBLE)


def _addresses(kind: str, text: str, region: str) -> list[Mapping[str, str]]:
    """Return a person's destination, and of an e-mail address its domain too: whole domains can be blocked."""
    bare = clean(text)
    refuse_rounded(bare)
    if kind == "mobile":
        return [{"destination": read_number(bare, region)}]
    bare = without_scheme(bare, "mailto:")
    refuse_lookalikes(bare)
    if not is_email(bare):
        raise UnusableIdentifier("unusable_value", "write an e-mail address, like ann@example.com")
    local, _, domain = bare.rpartition("@")
    return [{"destination": f"{local}@{domain.lower()}"}, {"destination": domain.lower()}]


def _kind(form: Mapping[str, str]) -> str | None:
    to = form.get("destination")
    return None if to is None else "mobile" if to == "+" else "email"


def _stops(slot: str, question: Question) -> bool:
    place = read_place(slot)
    return place is not None and place.channel in ("", CHANNELS.get(question.channel))


CHANNELS = {name: name for name in ("SMS", "EMAIL", "VIBER", "RCS", "MMS", "WHATSAPP", "APPLE_MB")}
SUPPRESSION = SuppressionRules(
    frozenset({"email", "mobile"}), CHANNELS, (), _addresses, _kind, _stops, _covers, overlaps=True
)
"""An entry for any sender forbids its channel, and one without a channel all of them."""
