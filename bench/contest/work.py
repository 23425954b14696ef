"""The file that every contestant delivers: two rows a customer, and what must be held in the end."""

from __future__ import annotations

import csv
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

HEADER = ("user_id", "channel", "priority", "action", "effective_at", "reason", "account_id", "org_unit_id")
FIRST_CUSTOMER = 500_000_000
WARM_UP_CUSTOMER = 400_000_000
EARLIER, LATER = "2026-11-20T08:00:00Z", "2026-11-20T08:30:00Z"

Change = tuple[int, str, str, str]


@dataclass(frozen=True, slots=True)
class Work:
    """One file: where it is, how many rows and customers it has, and the newest change about every slot.

    `against_the_order` are the slots whose newest change is not last in the file: a program that goes by the file's
    order and not by `effective_at` gets them wrong. The others go wrong only if rows overtake each other.
    """

    path: Path
    rows: int
    customers: int
    newest: dict[str, str]
    against_the_order: frozenset[str]

    def wrong(self, held: dict[str, str]) -> tuple[int, int]:
        """Return how many slots end wrong because rows overtook each other, and because of the file's order."""
        wrong = {slot for slot, action in self.newest.items() if held.get(slot) != action}
        ordered = len(wrong & self.against_the_order)
        return len(wrong) - ordered, ordered


def write_work(path: Path, rows: int, first: int = FIRST_CUSTOMER, *, apart: bool = True) -> Work:
    """Write a file of `rows` rows, the same each time, and count what must come of it by means other than ours.

    Most customers' second rows stand far below their first ones; with `apart` false all stand together.
    """
    customers = max(1, rows // 2)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for customer, channel, action, moment in _changes(first, customers, apart=apart):
            writer.writerow((customer, channel, "BULK", action, moment, "nightly", "", "-1"))
    os.utime(path, (time.time() - 60,) * 2)
    newest, last = _fold(path)
    against = frozenset(slot for slot, action in newest.items() if last[slot] != action)
    return Work(path, 2 * customers, customers, newest, against)


def _changes(first: int, customers: int, *, apart: bool) -> list[Change]:
    """Return all rows in the file's order: the first half begins, the second half ends what was begun far above."""
    odds = random.Random(2026)
    beginning: list[tuple[Change, ...]] = []
    end: list[tuple[Change, ...]] = []
    for customer in range(first, first + customers):
        one, other, adjacent = _two_changes(customer)
        together = adjacent or not apart
        beginning.append((one, other) if together else (one,))
        end += [] if together else [(other,)]
    odds.shuffle(beginning)
    odds.shuffle(end)
    return [change for group in (*beginning, *end) for change in group]


def _two_changes(customer: int) -> tuple[Change, Change, bool]:
    """Return a customer's two rows, and whether they stand next to each other.

    Of twenty customers, twelve speak of two channels; eight say the opposite about the same one: four in the next row,
    three far below, and one in the wrong order, so that the older change comes last.
    """
    kind = customer % 20
    opted_in = (customer, "EMAIL", "OPTIN", EARLIER)
    opted_out = (customer, "EMAIL", "OPTOUT", LATER)
    if kind < 12:
        return (customer, "EMAIL", "OPTOUT", EARLIER), (customer, "MOBILE", "OPTOUT", LATER), False
    if kind < 19:
        return opted_in, opted_out, kind < 16
    return opted_out, opted_in, False


def _fold(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return each slot's newest action (an opt-out on a tie), and its last one in the file."""
    newest: dict[str, tuple[str, bool]] = {}
    last: dict[str, str] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            slot = f"/v2/customers/{row['user_id']} {row['channel']} {row['priority']}"
            rank = (row["effective_at"], row["action"] == "OPTOUT")
            newest[slot] = max(newest.get(slot, rank), rank)
            last[slot] = row["action"]
    return {slot: "OPTOUT" if out else "OPTIN" for slot, (_, out) in newest.items()}, last
