"""The demo's CSV file, and what must become of it by a count that shares nothing with the product."""

from __future__ import annotations

import csv
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from sandbox.gupshup.settings import GupshupSettings
from sandbox.infobip.settings import InfobipSettings

UNKNOWN_CUSTOMER = "404000417"
COLUMNS = (
    *("connection", "user_id", "identifier_name", "identifier_value", "channel", "priority"),
    *("action", "effective_at", "reason"),
    *("destination", "subscription_id", "application_id", "entity_id", "app_id", "modes"),
)
_OF_TEN = 10  # one row of ten is about Infobip or Gupshup
_BY_EMAIL = 30
_DUPLICATES = 12
_TIES = 40
_UNKNOWN_ROWS = (("EMAIL", "BULK", "OPTIN", 9), ("EMAIL", "BULK", "OPTOUT", 2), ("MOBILE", "TRANS", "OPTOUT", 5))
_REASONS = ("", "", "", "", "newsletter footer", "preference centre")
_BAD: tuple[tuple[str, dict[str, str]], ...] = (
    ("unknown_value", {"channel": "FAX"}),
    ("unknown_value", {"action": "MAYBE"}),
    ("missing_field", {"user_id": ""}),
    ("missing_field", {"priority": ""}),
    ("unreadable_time", {"effective_at": "yesterday"}),
    ("damaged_number", {"user_id": "9.19E+11"}),
    ("from_the_future", {"effective_at": "2999-01-01T00:00:00Z"}),
)

Row = dict[str, str]
_BLANK: Row = dict.fromkeys(COLUMNS, "")
Place = tuple[str, ...]
"""A connection, a target as its sandbox names it, and what of it: at Capillary channel and priority."""


@dataclass(slots=True)
class Expected:
    """What must become of the demo's rows, and what every slot must hold in the end."""

    rows: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    applied: int = 0
    superseded: int = 0
    dead: int = 0
    final: dict[Place, str] = field(default_factory=dict)


def write_file(path: Path, rows: int) -> Expected:
    """Write so many rows, broken ones among them; the same every time but for its dates. Return what is expected."""
    chance = random.Random(2026)  # noqa: S311 - a file, not a secret
    newest = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    broken = [(code, _row("100417", chance, newest) | wrong) for code, wrong in _BAD]
    good = _good_rows(rows - len(broken) - 1, rows // _OF_TEN, chance, newest)
    lines: list[tuple[str, Row]] = [("", row) for row in good]
    for code, row in broken:
        lines.insert(chance.randrange(len(lines)), (code, row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([row[name] for name in COLUMNS] for _, row in lines)
        file.write("capillary,100418,,,EMAIL\n")  # cut off in the middle
    os.utime(path, (newest.timestamp(), newest.timestamp()))  # a file that was finished a while ago is read at once
    codes = Counter(code for code, _ in lines if code)
    return _expected(good, codes + Counter({"too_few_cells": 1}))


def _good_rows(whole: int, others: int, chance: random.Random, newest: datetime) -> list[Row]:
    count = whole - others
    customers = _customers(max(2, count * 45 // 100))
    rows = [_row(customer, chance, newest) for customer in customers]
    rows += [_unknown(*change, newest) for change in _UNKNOWN_ROWS]
    extra = count - len(rows) - _TIES - _DUPLICATES
    rows += [_row(chance.choice(customers), chance, newest) for _ in range(extra)]
    rows += [_opposite(row) for row in chance.sample(rows[: len(customers)], min(_TIES, len(customers)))]
    rows += [_BLANK | row for row in webhook_rows(others, chance, newest)]
    chance.shuffle(rows)
    rows += [dict(row) for row in chance.sample(rows, _DUPLICATES)]
    return rows


def _customers(count: int) -> list[str]:
    emails = [f"person{number:03}@example.com" for number in range(min(_BY_EMAIL, count // 2))]
    return [str(100_500 + number) for number in range(count - len(emails))] + emails


def _row(customer: str, chance: random.Random, newest: datetime) -> Row:
    by_email = "@" in customer
    return _BLANK | {
        "connection": "capillary",
        "user_id": "" if by_email else customer,
        "identifier_name": "email" if by_email else "",
        "identifier_value": customer if by_email else "",
        "channel": chance.choice(("EMAIL", "EMAIL", "MOBILE")),
        "priority": chance.choice(("BULK", "BULK", "TRANS")),
        "action": chance.choice(("OPTOUT", "OPTOUT", "OPTIN")),
        "effective_at": _iso(newest - timedelta(minutes=chance.randrange(60 * 24 * 30))),
        "reason": chance.choice(_REASONS),
    }


def _unknown(channel: str, priority: str, action: str, days: int, newest: datetime) -> Row:
    place = {"connection": "capillary", "user_id": UNKNOWN_CUSTOMER, "channel": channel, "priority": priority}
    return _BLANK | place | {"action": action, "effective_at": _iso(newest - timedelta(days=days))}


def _opposite(row: Row) -> Row:
    """Say the opposite at the very same moment: the opt-out must win."""
    return row | {"action": "OPTIN" if row["action"] == "OPTOUT" else "OPTOUT"}


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _expected(good: Sequence[Row], rejected: Counter[str]) -> Expected:
    different = {tuple(row.values()) for row in good}
    winners: dict[Place, tuple[str, bool]] = {}
    for row in good:
        word = (row["effective_at"], row["action"] == "OPTOUT")
        winners[_place(row)] = max(winners.get(_place(row), word), word)
    dead = sum(place[1] == UNKNOWN_CUSTOMER for place in winners)
    return Expected(
        rows=len(good) + rejected.total(),
        rejected=rejected,
        duplicates=len(good) - len(different),
        applied=len(winners) - dead,
        superseded=len(different) - len(winners),
        dead=dead,
        final={
            place: "OPTOUT" if out else "OPTIN" for place, (_, out) in winners.items() if place[1] != UNKNOWN_CUSTOMER
        },
    )


def _place(row: Row) -> Place:
    match row:
        case {"app_id": str(app)} if app:
            return "gupshup", f"{app}/{row['subscription_id']}", row["modes"]
        case {"destination": str(number)} if number:
            return "infobip", f"blocklist/{number}"
        case {"subscription_id": str(id_)} if id_:
            return "infobip", f"{row['channel']}/{id_}", row["application_id"], row["entity_id"]
    customer = row["user_id"] or f"{row['identifier_name']}={row['identifier_value']}"
    return "capillary", customer, row["channel"], row["priority"]


BLOCKED = tuple(f"1555010{number:04}" for number in range(9000, 9005))
"""Numbers that are on the sandbox's blocklist before the file: their persons want to hear from us again."""

_NEW_MODES = {"2": ("DELETED", "BILLING", "ENQUEUED"), "3": ("SENT", "READ", "FLOWS_MESSAGE")}
_RULE = {"connection": "infobip", "channel": "SMS", "subscription_id": "DEMO-SMS-ENTITIES"}
_CRITERIA = 25
_PEOPLE = 10_000
_MINUTES = 60 * 24 * 30

Wanted = tuple[Row, str]
"""What a row names, and the action that must be the newest: one that changes something."""


def webhook_rows(count: int, chance: random.Random, newest: datetime) -> list[Row]:
    """Return so many rows, several about the same thing and the newest of them a real change."""
    rows: list[Row] = []
    for named, action in _in_turn(_people_in(), _hooks(), _criteria(), _people_out()):
        rows += _changes(named, action, chance, newest)
        if len(rows) >= count:
            break
    return rows[:count]


def _changes(named: Row, action: str, chance: random.Random, newest: datetime) -> Iterator[Row]:
    """Yield the newest change first, then older ones, opt-ins and opt-outs."""
    last = newest - timedelta(minutes=chance.randrange(_MINUTES))
    yield named | _statement(action, last)
    for _ in range(chance.randrange(3)):
        older = last - timedelta(minutes=1 + chance.randrange(_MINUTES))
        yield named | _statement(chance.choice(("OPTIN", "OPTOUT")), older)


def _statement(action: str, moment: datetime) -> Row:
    return {"action": action, "effective_at": moment.isoformat().replace("+00:00", "Z")}


def _people_out() -> Iterator[Wanted]:
    for number in range(_PEOPLE):
        yield {"connection": "infobip", "destination": f"1555012{number:04}"}, "OPTOUT"


def _people_in() -> Iterator[Wanted]:
    for number in BLOCKED:
        yield {"connection": "infobip", "destination": number}, "OPTIN"


def _criteria() -> Iterator[Wanted]:
    there = [one["entityId"] for sub in InfobipSettings().subscriptions["SMS"] for one in sub.get("criteria", [])]
    names = [f"demo-entity-{number}" for number in range(1, _CRITERIA)]
    for name in names:
        if name not in there:
            yield _RULE | {"application_id": "demo-app", "entity_id": name}, "OPTIN"


def _hooks() -> Iterator[Wanted]:
    for app, forms in GupshupSettings().subscriptions.items():
        for form in forms:
            named = {"connection": "gupshup", "app_id": app, "subscription_id": form["id"]}
            yield named | {"modes": form["modes"].split(",")[0]}, "OPTOUT"
            for mode in _NEW_MODES[form["version"]]:
                yield named | {"modes": mode}, "OPTIN"


def _in_turn(*kinds: Iterator[Wanted]) -> Iterator[Wanted]:
    """Take from each kind in turn, until none has any left."""
    left: Sequence[Iterator[Wanted]] = kinds
    while left:
        taken = [list(islice(kind, 1)) for kind in left]
        yield from (one for some in taken for one in some)
        left = [kind for kind, some in zip(left, taken, strict=True) if some]
