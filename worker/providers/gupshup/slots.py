"""A slot of a Gupshup subscription: one mode, one field, or whether it is active; each one's form as text."""

from __future__ import annotations

from typing import NamedTuple

MODES = "modes"
FIELD = "field"
ACTIVE = "active"

FORM_NAMES = {"tag": "tag", "url": "url", "version": "version", "do_check": "doCheck"}
"""Our columns of fields, and Gupshup's names for them."""


class Slot(NamedTuple):
    """`modes` and which mode, `field` and which field, or `active`."""

    kind: str
    member: str = ""


def slot_text(kind: str, member: str) -> str:
    """Write a slot like `modes:SENT` or `field:url`."""
    return f"{kind}:{member}"


def read_slot(text: str) -> Slot:
    """Read what `slot_text` wrote, or `active`."""
    kind, _, member = text.partition(":")
    return Slot(kind, member)
