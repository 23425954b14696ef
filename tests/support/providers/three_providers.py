"""A company with accounts at all three providers, its mixed file, and what must be held in the end: said again here."""

from __future__ import annotations

import csv
import json
import os
import random
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from sandbox.server import running
from sandbox.settings import SandboxSettings
from tests.support.company import Company, Row, shuffled_rows

RATES = {"eu": "100/second", "us": "75/second", "infobip": "20/second", "blocklist": "5/second", "gupshup": "5/second"}
BATCH = 100
APPS = {f"app-{n}": f"demo-token-{n}" for n in (1, 2, 3)}
KEY = "demo-infobip-key"
EVENTS = ("DELIVERY", "CLICK", "INBOUND_MESSAGE")
MODES = ("SENT", "DELIVERED", "READ", "DELETED", "FAILED", "MESSAGE", "TEMPLATE", "ACCOUNT", "BILLING", "ENQUEUED")
RULES = tuple(f"RULE-{n}" for n in range(10))
CALM_RULE, CALM_HOOK = "RULE-9", "20014"
HOOKS = {app: tuple(f"200{n}{m}" for m in range(1, 5)) for n, app in enumerate(APPS, 1)}
BLOCKED = tuple(f"1555010{n:04}" for n in range(400, 420))

Held = dict[str, Any]
Rank = tuple[str, int, int]
"""What decides between two changes of a slot: the time, an opt-out before an opt-in, and the line."""


def rule_at_first(name: str) -> Held:
    """What a subscription at Infobip holds before the file."""
    return {"name": name.lower(), "events": {"DELIVERY"}, "users": {"keeper", "user-1"}, "resources": {"1234"}}


def hook_at_first(id_: str) -> Held:
    """What a subscription at Gupshup holds before the file."""
    return {"active": True, "modes": {"SENT", "READ"}, "tag": f"tag-{id_}", "url": "https://hooks.example.com/old"}


def sandbox_of(capillary: str, *, all_providers: bool) -> SandboxSettings:
    """One cluster of Capillary and, if asked, Infobip and Gupshup, each with the limits that the company was told."""
    whole: dict[str, Any] = {"capillary": {"rate": capillary, "burst": 2}}
    if all_providers:
        rules = [
            {"subscriptionId": rule, "profile": {"profileId": "P"}}
            | {name: sorted(one) if isinstance(one, set) else one for name, one in rule_at_first(rule).items()}
            for rule in RULES
        ]
        whole["infobip"] = {
            "profiles": [{"profileId": "P", "webhook": {"notifyUrl": "https://hooks.example.com/infobip"}}],
            "subscriptions": {"SMS": rules},
            "blocklist": [{"destinations": [{"to": one} for one in BLOCKED]}],
            "blocklist_rate": RATES["blocklist"],
            "subscription_rate": RATES["infobip"],
        }
        hooks = {app: [_form(id_) for id_ in ids] for app, ids in HOOKS.items()}
        whole["gupshup"] = {"apps": APPS, "rate": RATES["gupshup"], "subscriptions": hooks}
    return SandboxSettings.model_validate(whole)


def _form(id_: str) -> dict[str, str]:
    there = hook_at_first(id_)
    return {"id": id_, "tag": there["tag"], "url": there["url"], "version": "2", "modes": ",".join(there["modes"])}


@dataclass
class MixedCompany(Company):
    """An installation with four connections: two clusters of Capillary, Infobip, and Gupshup with three apps."""

    second_url: str = ""
    names: tuple[str, ...] = field(default=("eu", "us", "infobip", "gupshup"))

    def environment(self) -> dict[str, str]:
        """What the optrelay command is told."""
        clean = {n: v for n, v in super().environment().items() if not n.startswith("OPTRELAY_CONNECTIONS__CAPILLARY")}
        for name in self.names:
            stem = f"OPTRELAY_CONNECTIONS__{name.upper()}__"
            clean[f"{stem}BASE_URL"] = self.second_url if name == "us" else self.url
            clean[f"{stem}RATE"] = RATES[name]
            if name in ("eu", "us"):
                clean |= {f"{stem}PROVIDER": "capillary", f"{stem}USERNAME": "demo.till"}
                clean[f"{stem}PASSWORD"] = "demo-password"
        clean["OPTRELAY_CONNECTIONS__GUPSHUP__TOKENS"] = json.dumps(APPS)
        clean["OPTRELAY_CONNECTIONS__INFOBIP__API_KEY"] = KEY
        clean["OPTRELAY_CONNECTIONS__INFOBIP__BLOCKLIST_RATE"] = RATES["blocklist"]
        clean["OPTRELAY_CONNECTIONS__INFOBIP__BLOCKLIST_BATCH"] = str(BATCH)
        return clean

    def write(self, rows: Iterable[Row], name: str = "nightly.csv") -> Path:
        """Write a file with every column that any row has."""
        rows, path = list(rows), self.folder / name
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(column for row in rows for column in row)), restval="")
            writer.writeheader()
            writer.writerows(rows)
        os.utime(path, (time.time() - 60,) * 2)
        return path

    def look(self, what: str, url: str, sister: str = "", **params: Any) -> Any:
        """Ask a sandbox for its `stats`, `calls` or `state`."""
        reply = httpx.get(f"{url}/_sandbox{sister and '/' + sister}/{what}", params=params).raise_for_status()
        lines = params.get("format") == "ndjson"
        return [json.loads(line) for line in reply.text.splitlines()] if lines else reply.json()

    def calls(self, sister: str) -> list[dict[str, Any]]:
        """Every call that a sister of Capillary has received."""
        return self.look("calls", self.url, sister, format="ndjson")

    def held_by(self, sister: str) -> dict[str, dict[str, Any]]:
        """What a sister of Capillary holds, by the sandbox's own keys."""
        return {one["user"]: one["rows"][0] for one in self.look("state", self.url, sister, format="ndjson")}


@contextmanager
def mixed_company(folder: Path) -> Iterator[MixedCompany]:
    """A company whose providers run until the test ends."""
    first, second = sandbox_of(RATES["eu"], all_providers=True), sandbox_of(RATES["us"], all_providers=False)
    with running(first) as url, running(second) as second_url:
        yield MixedCompany(folder, url, second_url=second_url)


def mixed_rows() -> list[Row]:
    """5,000 rows for all connections, in no order, most of them contradicted by another."""
    odds = random.Random(5)
    rows = [row | {"connection": "eu"} for row in shuffled_rows(1_800, 450, 1)]
    rows += [row | {"connection": "us"} for row in shuffled_rows(1_200, 300, 2)]
    rows += [_rule_row(odds) for _ in range(700)] + [_person_row(odds) for _ in range(700)]
    rows += [_hook_row(odds) for _ in range(600)]
    odds.shuffle(rows)
    return rows


def _statement(odds: random.Random) -> Row:
    moment = datetime(2026, 11, 20, 8, tzinfo=UTC) + timedelta(minutes=odds.randrange(8))
    return {"action": odds.choice(("OPTIN", "OPTOUT")), "effective_at": moment.isoformat()}


def _rule_row(odds: random.Random) -> Row:
    rule = odds.choice(RULES)
    row = _statement(odds) | {"connection": "infobip", "channel": "SMS", "subscription_id": rule}
    if rule == CALM_RULE:
        return row | {"action": "OPTIN", "events": "DELIVERY"}
    named = odds.choice(("events", "users", "users", "resources", "name"))
    if named == "name":
        return row | {"action": "OPTIN", "name": f"{rule} {odds.randrange(50)}"}
    some = EVENTS if named == "events" else [f"{named[:-1]}-{n}" for n in range(20)]
    return row | {named: "|".join(odds.sample(some, odds.randint(1, 2)))}


def _person_row(odds: random.Random) -> Row:
    number = odds.randrange(420)
    out = number < 400  # only those who are blocked already are ever let in again, since that costs a look
    row = _statement(odds) | ({"action": "OPTOUT"} if out else {})
    return row | {"connection": "infobip", "destination": f"+1 555 010-{number:04}"}


def _hook_row(odds: random.Random) -> Row:
    app = odds.choice(tuple(APPS))
    hook = odds.choice(HOOKS[app])
    row = _statement(odds) | {"connection": "gupshup", "app_id": app, "subscription_id": hook}
    if hook == CALM_HOOK:
        return row | {"action": "OPTIN", "modes": "SENT|READ"}
    if hook == HOOKS[app][0]:
        return row  # an opt-out of everything: it pauses the webhook
    if odds.random() < 0.2:
        return row | {"action": "OPTIN", "url": f"https://hooks.example.com/{odds.randrange(9)}"}
    return row | {"modes": "|".join(odds.sample(MODES, odds.randint(1, 3)))}


def newest(rows: Iterable[tuple[int, Row, str]]) -> dict[str, Row]:
    """Return the row that has the last word about each slot: latest time, opt-out on a tie, else the later line."""
    last: dict[str, tuple[Rank, Row]] = {}
    for line, row, slot in rows:
        rank = (row["effective_at"], int(row["action"] == "OPTOUT"), line)
        if slot not in last or rank > last[slot][0]:
            last[slot] = (rank, row)
    return {slot: row for slot, (_, row) in last.items()}


def rules_in_the_end(rows: list[Row]) -> dict[str, Held]:
    """What each of Infobip's subscriptions must hold."""
    held = {rule: rule_at_first(rule) for rule in RULES}
    named = [(n, row, row["subscription_id"]) for n, row in enumerate(rows) if "subscription_id" in row]
    mine = [one for one in named if one[2] in held]
    for kind in ("events", "users", "resources"):
        pairs = [(n, row, f"{rule}/{one}") for n, row, rule in mine for one in row.get(kind, "").split("|") if one]
        for slot, row in newest(pairs).items():
            rule, _, member = slot.partition("/")
            (held[rule][kind].add if row["action"] == "OPTIN" else held[rule][kind].discard)(member)
    for rule, row in newest(one for one in mine if "name" in one[1]).items():
        held[rule]["name"] = row["name"]
    return held


def people_in_the_end(rows: list[Row]) -> dict[str, str]:
    """The last word about each person's destination."""
    pairs = [
        (n, row, "".join(filter(str.isdigit, row["destination"]))) for n, row in enumerate(rows) if "destination" in row
    ]
    return {number: row["action"] for number, row in newest(pairs).items()}


def hooks_in_the_end(rows: list[Row]) -> dict[str, Held]:
    """What each of Gupshup's subscriptions must hold."""
    held = {id_: hook_at_first(id_) for ids in HOOKS.values() for id_ in ids}
    mine = [(n, row, row["subscription_id"]) for n, row in enumerate(rows) if "app_id" in row]
    pairs = [(n, row, f"{hook}/{one}") for n, row, hook in mine for one in row.get("modes", "").split("|") if one]
    for slot, row in newest(pairs).items():
        hook, _, mode = slot.partition("/")
        (held[hook]["modes"].add if row["action"] == "OPTIN" else held[hook]["modes"].discard)(mode)
    for hook, row in newest(one for one in mine if "url" in one[1]).items():
        held[hook]["url"] = row["url"]
    for hook, row in newest(one for one in mine if one[1].keys().isdisjoint({"modes", "url"})).items():
        held[hook]["active"] = row["action"] == "OPTIN"
    return held
