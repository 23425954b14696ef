"""Whether the demo came out as it must: the ledger's counts, and every slot at the sandbox."""

from __future__ import annotations

import json
from dataclasses import dataclass

import httpx

from consent.ledger.ledger import Ledger
from consent.ledger.report import ImportReport
from consent.ledger.standing import Standing, standing_words
from consent.outcome import State
from console.demo_file import Expected, Place
from console.screen import Screen
from worker.providers.capillary.slots import read_slot

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


@dataclass(frozen=True, slots=True)
class SandboxStats:
    """The most calls in any second, calls that were told to wait, and calls for one customer at the same time."""

    busiest_second: int
    throttled: int
    overlaps: int


def check(screen: Screen, url: str, ledger: Ledger, found: ImportReport, expected: Expected) -> bool:
    """Compare, say what was found, and return whether everything agrees."""
    at_sandbox = sandbox_state(url)
    in_ledger = {_place(one): one.action.value for one in standing_words(ledger.database) if one.state in _DELIVERED}
    by_ledger, by_file = compare(in_ledger, at_sandbox), compare(expected.final, at_sandbox)
    wrong, stats = _wrong_counts(found, expected), sandbox_stats(url)
    polite = not stats.throttled and not stats.overlaps
    _say(screen, f"the sandbox agrees with the ledger: {by_ledger}", well=by_ledger.complete)
    _say(screen, f"and with a count of the file by other means: {by_file}", well=by_file.complete)
    _say(screen, wrong or "every row became what it had to become", well=not wrong)
    calls = f"{stats.busiest_second:,} calls in the busiest second, {stats.throttled:,} throttled"
    _say(screen, f"{calls}, {stats.overlaps:,} times two for one customer at once", well=polite)
    return by_ledger.complete and by_file.complete and not wrong and polite


def compare(one: dict[Place, str], other: dict[Place, str]) -> Agreement:
    """Return on how many of the slots that either of them knows both say the same."""
    slots = one.keys() | other.keys()
    return Agreement(sum(one.get(slot) == other.get(slot) for slot in slots), len(slots))


def sandbox_state(url: str) -> dict[Place, str]:
    """Return what the sandbox holds for every slot that was ever written."""
    reply = httpx.get(f"{url}/_sandbox/state", params={"format": "ndjson"}, trust_env=False, timeout=30.0)
    customers = [json.loads(line) for line in reply.raise_for_status().text.splitlines()]
    return {
        (customer["user"], row["channel"], row["priority"]): row["type"]
        for customer in customers
        for row in customer["rows"]
    }


def sandbox_stats(url: str) -> SandboxStats:
    """Return what the sandbox noted about the calls made to it."""
    reply = httpx.get(f"{url}/_sandbox/stats", params={"window": "1"}, trust_env=False, timeout=30.0)
    found = reply.raise_for_status().json()
    return SandboxStats(int(found["worst_window"]["calls"]), int(found["throttled"]), int(found["overlaps"]))


def _place(one: Standing) -> Place:
    slot = read_slot(one.slot)
    customer = one.address.get("user_id") or f"{one.address['identifier_name']}={one.address['identifier_value']}"
    return customer, slot.channel.upper(), slot.priority


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


def _say(screen: Screen, words: str, *, well: bool) -> None:
    screen.show(words if well else f"NOT SO: {words}", "green" if well else "bold red")
