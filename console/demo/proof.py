"""Whether the demo came out as it must: the ledger's counts, and every slot at the sandbox."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from consent.ledger.ledger import Ledger
from consent.ledger.queries.changes import CurrentValue
from consent.ledger.queries.imports import ImportReport
from consent.outcome import State
from console.demo.file import Expected, Place
from console.demo.sandbox import Sandbox
from console.ui.screen import Screen
from worker.providers.capillary.row import read_slot
from worker.providers.gupshup.row import read_slot as hook_slot
from worker.providers.infobip.row import criterion
from worker.providers.infobip.row import read_slot as rule_slot

_DELIVERED = (State.APPLIED, State.UNCHANGED)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two accounts of the same slots agree."""

    same: int
    slots: int

    @property
    def complete(self) -> bool:
        """Whether they agree on every slot that either knows."""
        return self.same == self.slots

    def __str__(self) -> str:
        """Say it in numbers."""
        return f"{self.same:,} of {self.slots:,} slots"


def check(screen: Screen, sandbox: Sandbox, ledger: Ledger, found: ImportReport, expected: Expected) -> bool:
    """Compare, say what was found, and return whether everything agrees."""
    at_sandbox = sandbox.changed()
    in_ledger = {_place(one): one.action.value for one in ledger.queries.current_values() if one.state in _DELIVERED}
    by_ledger, by_file = compare(in_ledger, at_sandbox), compare(expected.final, at_sandbox)
    wrong, stats = _wrong_counts(found, expected), sandbox.stats()
    polite = not stats.throttled and not stats.overlaps
    each = ", ".join(f"{name} {count:,}" for name, count in Counter(place[0] for place in at_sandbox).items())
    _say(screen, f"the sandbox agrees with the ledger: {by_ledger} ({each})", well=by_ledger.complete)
    _say(screen, f"and with a count of the file by other means: {by_file}", well=by_file.complete)
    _say(screen, wrong or "every row became what it had to become", well=not wrong)
    calls = f"{stats.busiest_second:,} calls in the busiest second, {stats.throttled:,} throttled"
    _say(screen, f"{calls}, {stats.overlaps:,} times two for one target at once", well=polite)
    return by_ledger.complete and by_file.complete and not wrong and polite


def compare(one: dict[Place, str], other: dict[Place, str]) -> Agreement:
    """Return on how many of the slots that either of them knows both say the same."""
    slots = one.keys() | other.keys()
    return Agreement(sum(one.get(slot) == other.get(slot) for slot in slots), len(slots))


def _place(one: CurrentValue) -> Place:
    """Return where the sandbox holds a slot, for those kinds of slot that the demo's file has."""
    match one.address:
        case {"app_id": app, "subscription_id": id_}:
            return "gupshup", f"{app}/{id_}", hook_slot(one.slot).member
        case {"channel": channel, "subscription_id": id_}:
            named = criterion(rule_slot(one.slot).member)
            return "infobip", f"{channel}/{id_}", named.get("applicationId", ""), named.get("entityId", "")
        case {"destination": number}:
            return "infobip", f"blocklist/{number}"
        case address:
            slot = read_slot(one.slot)
            customer = address.get("user_id") or f"{address['identifier_name']}={address['identifier_value']}"
            return "capillary", customer, slot.channel.upper(), slot.priority


def _wrong_counts(found: ImportReport, expected: Expected) -> str:
    wanted = {name: getattr(expected, name) for name in ("rows", "duplicates", "applied", "superseded", "dead")} | {
        "pending": 0,
        "reject_codes": dict(expected.rejected),
    }
    wrong = [
        f"{name}: {getattr(found, name)}, not {value}"
        for name, value in wanted.items()
        if getattr(found, name) != value
    ]
    return f"unexpected counts: {'; '.join(wrong)}" if wrong else ""


def _say(screen: Screen, text: str, *, well: bool) -> None:
    screen.show(text if well else f"NOT SO: {text}", "green" if well else "bold red")
