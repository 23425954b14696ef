"""What Capillary holds: the latest row of every slot of every customer, and what was written before."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sandbox.capillary.requests import Envelope, Slot, SlotUpdate


@dataclass(frozen=True, slots=True)
class Entry:
    """One row as it was committed: its place in the order of all commits and its time in epoch seconds."""

    slot_update: SlotUpdate
    envelope: Envelope
    seq: int
    at: float


@dataclass(frozen=True, slots=True)
class Held:
    """The rows of one customer: the newest per slot, and all of them in order."""

    newest: dict[Slot, Entry] = field(default_factory=dict)
    written: list[Entry] = field(default_factory=list)


class Register:
    """All customers, in memory until reset; a later commit replaces an earlier one, whatever it says."""

    def __init__(self) -> None:
        self._customers: dict[str, Held] = {}
        self._seq = 0

    def clear(self) -> None:
        """Forget every customer."""
        self._customers.clear()
        self._seq = 0

    def commit(self, key: str, slot_updates: Iterable[SlotUpdate], envelope: Envelope, at: float) -> None:
        """Write these rows of one customer, in their order."""
        held = self._customers.setdefault(key, Held())
        for slot_update in slot_updates:
            self._seq += 1
            entry = Entry(slot_update, envelope, self._seq, at)
            held.newest[slot_update.slot] = entry
            held.written.append(entry)

    def held(self, key: str) -> Held:
        """Return what is held of one customer, which may be nothing."""
        return self._customers.get(key) or Held()

    def keys(self) -> list[str]:
        """Return the customers ever written, in the order of their first write."""
        return list(self._customers)

    def counts(self) -> dict[str, int]:
        """Return how many customers there are, and how many rows were ever committed."""
        return {"customers": len(self._customers), "rows_committed": self._seq}

    def rows(self, key: str) -> list[dict[str, Any]]:
        """Return the newest row of every slot of one customer, for inspection."""
        return [_row(entry) for entry in self.held(key).newest.values()]


def _row(entry: Entry) -> dict[str, Any]:
    slot, envelope = entry.slot_update.slot, entry.envelope
    return {
        "channel": slot.channel,
        "accountId": slot.account_id,
        "priority": slot.priority,
        "orgUnitId": slot.org_unit_id,
        "type": entry.slot_update.action,
        "sourceName": entry.slot_update.source_name,
        "reason": envelope.reason,
        "campaignId": envelope.campaign_id,
        "communicationId": envelope.communication_id,
        "scope": envelope.scope,
        "seq": entry.seq,
        "at": entry.at,
    }
