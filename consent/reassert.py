"""Whether an opt-out is delivered though the provider is confirmed to hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Reassert(StrEnum):
    """Which opt-outs are delivered again to a slot that is confirmed to hold them.

    FRESH: those with a time of their own that is later than the confirmation, for what was confirmed may have been
    changed by others since. ALWAYS: all, also those of a file that says the same as the one before. NEVER: none.
    """

    FRESH = "fresh"
    ALWAYS = "always"
    NEVER = "never"


BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on", "t", "y"), Reassert.ALWAYS),
    **dict.fromkeys(("false", "0", "no", "off", "f", "n"), Reassert.NEVER),
}
"""The setting's former values, in every spelling that was valid."""


def parse_reassert(value: object) -> object:
    """Return the way that a setting names, also in its former form; anything else as it is."""
    if not isinstance(value, str | bool):
        return value
    text = str(value).strip().lower()
    return BOOLEANS.get(text, text)


@dataclass(frozen=True, slots=True)
class ReassertRules:
    """The way of each connection: `by_connection` holds those that differ from `default`."""

    default: Reassert = Reassert.FRESH
    by_connection: Mapping[str, Reassert] = field(default_factory=dict)

    def of(self, connection: str) -> Reassert:
        """Return the way of a connection."""
        return self.by_connection.get(connection, self.default)
