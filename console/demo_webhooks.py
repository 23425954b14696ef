"""The rows of the demo's file that are not Capillary's: people on Infobip's blocklist, and webhooks at both others."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice

from sandbox.gupshup.settings import GupshupSettings
from sandbox.infobip.settings import InfobipSettings

BLOCKED = tuple(f"1555010{number:04}" for number in range(9000, 9005))
"""Numbers that are on the sandbox's blocklist before the file: their persons want to hear from us again."""

COLUMNS = ("destination", "subscription_id", "application_id", "entity_id", "app_id", "modes")
_NEW_MODES = {"2": ("DELETED", "BILLING", "ENQUEUED"), "3": ("SENT", "READ", "FLOWS_MESSAGE")}
_RULE = {"connection": "infobip", "channel": "SMS", "subscription_id": "DEMO-SMS-ENTITIES"}
_CRITERIA = 25
_PEOPLE = 10_000
_MINUTES = 60 * 24 * 30

Row = dict[str, str]
Wanted = tuple[Row, str]
"""What a row names, and the word that must be the newest about it: one that changes something."""


def webhook_rows(count: int, chance: random.Random, newest: datetime) -> list[Row]:
    """Return so many rows, several about the same thing and the newest of them a real change."""
    rows: list[Row] = []
    for named, action in _in_turn(_people_in(), _hooks(), _criteria(), _people_out()):
        rows += _words(named, action, chance, newest)
        if len(rows) >= count:
            break
    return rows[:count]


def _words(named: Row, action: str, chance: random.Random, newest: datetime) -> Iterator[Row]:
    """Yield the newest word first, then older ones, any way round."""
    last = newest - timedelta(minutes=chance.randrange(_MINUTES))
    yield named | _said(action, last)
    for _ in range(chance.randrange(3)):
        older = last - timedelta(minutes=1 + chance.randrange(_MINUTES))
        yield named | _said(chance.choice(("OPTIN", "OPTOUT")), older)


def _said(action: str, moment: datetime) -> Row:
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
