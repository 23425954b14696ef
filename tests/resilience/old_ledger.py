"""A ledger as the version before revision 0011 left it: persons in several spellings, with work that is pending.

Everything follows from a seed. What is known of it is kept apart from the product: old keys are computed here.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, MetaData, Table, text

from consent.ledger import maintenance
from consent.ledger.dialects.statements import bulk
from consent.ledger.ledger import Ledger
from consent.ledger.schema import (
    attempts,
    changes,
    customer_tasks,
    dead_letters,
    imports,
    slots,
    targets,
)

SECRET = bytes(range(32))
MORNING = 1_790_000_000_000_000
LEASED = "a worker that is gone"
_AT_ONCE = 50_000


class Old(NamedTuple):
    """A change as it was recorded: whose it is in truth, and what stood in the ledger."""

    id: int
    person: tuple[str, ...]
    slot: str
    old_slot: str
    target: int
    key: bytes
    action: str
    since: int
    details: str
    named: bool
    state: str
    import_id: str

    @property
    def rank(self) -> tuple[int, bool, int]:
        """The rule, said again independently of the product."""
        return self.since, self.action == "OPTOUT", self.id


@dataclass
class OldLedger:
    """What an old ledger holds: targets with their keys and addresses, and all changes."""

    targets: list[tuple[bytes, str, str, dict[str, str]]] = field(default_factory=list)
    changes: list[Old] = field(default_factory=list)
    leased: list[int] = field(default_factory=list)
    folded: dict[tuple[int, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    _numbers: dict[bytes, int] = field(default_factory=dict)

    def public_id(self, change: Old) -> str:
        """The id that outsiders were given."""
        return (self.targets[change.target - 1][0][:4] + change.key).hex()

    def target(self, connection: str, bucket: str, address: dict[str, str]) -> int:
        """Return the number of the target with this address."""
        key = hashed(f"{connection}\0{canonical(address)}".encode())
        if key not in self._numbers:
            self.targets.append((key, connection, bucket, address))
            self._numbers[key] = len(self.targets)
        return self._numbers[key]


def hashed(data: bytes) -> bytes:
    """The keyed hash of that version."""
    return blake2b(data, key=SECRET, digest_size=16).digest()


def canonical(value: dict[str, Any]) -> str:
    """JSON as the ledger writes it."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def draw_change(
    draw: random.Random, persons: int
) -> tuple[str, str, dict[str, str], str, tuple[str, ...], str, dict[str, str]]:
    """Someone says something: connection, bucket, old address and slot; in truth who it is about, slot, details."""
    who, kind = draw.randrange(persons), draw.random()
    if kind < 0.4:
        destination = draw.choice((f"Ann{who}@example.com", f"ann{who}@example.com"))
        if who % 3 == 0:
            destination = f"44770090{who:07}"
        place = draw.choice(({}, {}, {"channel": "SMS"}, {"channel": "SMS", "sender": "Café"}, {"sender": "SHOP"}))
        listed = [place.get("channel", ""), place.get("sender", "")]
        slot = "blocked:" + json.dumps(listed, ensure_ascii=False, separators=(",", ":")) if place else "blocked"
        return (
            "infobip",
            "blocklist",
            {"destination": destination, **place},
            "blocked",
            ("d", destination.lower()),
            slot,
            {},
        )
    if kind < 0.75:
        name, value = ("email", draw.choice((f"Bob{who}@Example.com", f"bob{who}@example.com")))
        if who % 2:
            name, value = "mobile", draw.choice((f"+44 7700 {who:07}", f"447700{who:07}"))
        collected = draw.choice(("INSTORE", "FACEBOOK")) if who % 5 else ""
        address = {"identifier_name": name, "identifier_value": value, "source": collected or "INSTORE"}
        person = ("i", value.lower() if name == "email" else value.replace(" ", "").lstrip("+"))
        slot = draw.choice(('["EMAIL","","BULK",-1]', '["MOBILE","01","TRANS",7]'))
        return "capillary", "", address, slot, person, slot, {"source_name": collected} if collected else {}
    if kind < 0.9:
        accounts = (("é", "\\u00e9"), ("x", "x"))
        plain, escaped = draw.choice(accounts)
        slot = f'["EMAIL","{plain}","BULK",-1]'
        return "capillary", "", {"user_id": str(who + 1)}, f'["EMAIL","{escaped}","BULK",-1]', ("u", str(who)), slot, {}
    address = {"channel": "SMS", "subscription_id": f"S{who % 50}"}
    return "infobip", "", address, 'criteria:["\\u00fc","",""]', ("s", str(who % 50)), 'criteria:["ü","",""]', {}


def generated(count: int, seed: int) -> OldLedger:
    """Return what a ledger with so many changes holds."""
    draw, old = random.Random(seed), OldLedger()
    whole = int(count * 0.9)
    recorded: list[list[Any]] = []
    known: set[bytes] = set()
    while len(recorded) < count:
        connection, bucket, address, old_slot, person, slot, more = draw_change(draw, count // 4 + 1)
        target = old.target(connection, bucket, address)
        action, since = draw.choice(("OPTIN", "OPTOUT")), MORNING + draw.randrange(20) * 60_000_000
        details, named = canonical(more), draw.random() < 0.1
        same = f"id\0change {len(recorded)}" if named else f"{since}\0{details}"
        key = hashed(old.targets[target - 1][0] + f"{old_slot}\0{action}\0{same}".encode())
        if key in known:
            continue
        known.add(key)
        import_id = "whole" if len(recorded) < whole else "unread"
        recorded.append(
            [
                len(recorded) + 1,
                person,
                slot,
                old_slot,
                target,
                key,
                action,
                since,
                details,
                named,
                "pending",
                import_id,
            ]
        )
    old.changes = [Old(*one) for one in recorded]
    _fold(old, draw, whole)
    return old


def _fold(old: OldLedger, draw: random.Random, whole: int) -> None:
    """Let the newest change of each old slot stand, and have most of them delivered."""
    for change in old.changes[:whole]:
        old.folded[change.target, change.old_slot].append(change.id)
    for ids in old.folded.values():
        newest = max((old.changes[number - 1] for number in ids), key=lambda one: one.rank)
        for number in ids:
            state = "superseded"
            if number == newest.id:
                state = draw.choices(("applied", "unchanged", "pending", "dead"), (6, 1, 3, 1))[0]
            old.changes[number - 1] = old.changes[number - 1]._replace(state=state)
        ids.sort(key=lambda number: number == newest.id)


def fill(ledger: Ledger, old: OldLedger) -> None:
    """Write it into an empty database, at the revision of that version."""
    ledger.database.write(lambda tx: _fill(tx, old), checked=False)


def _fill(tx: Connection, old: OldLedger) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(maintenance.__file__).parent / "migrations"))
    config.attributes["connection"] = tx
    command.upgrade(config, "0007")
    tx.execute(text("INSERT INTO ledger_info (name, value) VALUES ('hash_key', :key)"), {"key": SECRET.hex()})
    counted = Counter(change.import_id for change in old.changes)
    columns = (
        "id",
        "kind",
        "name",
        "fingerprint",
        "size",
        "stream",
        "state",
        "started_at",
        "wishes",
        "recorded",
        "records",
    )
    files = [("whole", "released"), ("unread", "reading")]
    rows = [(one, "csv", f"{one}.csv", one, 1, 0, state, 1, *[counted[one]] * 3) for one, state in files]
    bulk(tx).insert(imports, columns, rows)
    named = ("target_key", "connection", "bucket", "address")
    bulk(tx).insert(targets, named, [(key, one, bucket, canonical(where)) for key, one, bucket, where in old.targets])
    for some in _portions(list(_change_rows(old))):
        bulk(tx).insert(changes, _CHANGE_COLUMNS, some)
    newest = [old.changes[ids[-1] - 1] for ids in old.folded.values()]
    registers = [
        (
            c.target,
            c.old_slot,
            c.id,
            c.since,
            c.action,
            c.action if c.state in ("applied", "unchanged") else None,
            c.key,
        )
        for c in newest
    ]
    bulk(tx).insert(slots, _SLOT_COLUMNS, sorted(registers))
    dead = [change.id for change in newest if change.state == "dead"]
    bulk(tx).insert(dead_letters, ("change_id",), [(number,) for number in sorted(dead)])
    replayed = [(1, "ann", "replayed", "-", number) for number in dead[:1]]
    bulk(tx).insert(Table("interventions", MetaData()), ("at", "who", "what", "why", "change_id"), replayed)
    names = ("target_id", "at", "milliseconds", "purpose", "status", "code", "change_ids")
    called = [(c.target, 7, 1, "write", 200, "200", f"[{c.id}]") for c in newest if c.state in ("applied", "dead")]
    bulk(tx).insert(attempts, names, called)
    _make_tasks(tx, old, newest)


def _make_tasks(tx: Connection, old: OldLedger, newest: list[Old]) -> None:
    waits = sorted({change.target for change in newest if change.state == "pending"})
    rows = []
    for number in waits:
        _, connection, bucket, _ = old.targets[number - 1]
        leased = number % 7 == 0
        old.leased += [number] if leased else []
        rows.append(
            (number, connection, bucket, 1, 9, 0 if leased else 1, 50 if leased else 9, 2, LEASED if leased else None)
        )
    columns = ("target_id", "connection", "bucket", "lane", "deadline", "waiting", "next_at", "tries", "lease_token")
    bulk(tx).insert(customer_tasks, columns, rows)


_SLOT_COLUMNS = ("target_id", "slot", "newest_id", "newest_at", "newest_action", "confirmed", "newest_key")
_CHANGE_COLUMNS = (
    *("dedupe_key", "import_id", "line", "target_id", "slot", "action", "value", "effective_at", "details", "origin"),
    *("recorded_at", "state", "superseded_by", "code", "reason", "settled_at"),
)


def _change_rows(old: OldLedger) -> Iterator[tuple[Any, ...]]:
    for c in old.changes:
        winner = old.folded[c.target, c.old_slot][-1] if c.state == "superseded" else None
        code = ("1012", "not known") if c.state == "dead" else (None, None)
        facts = (c.key, c.import_id, c.id, c.target, c.old_slot, c.action, "", c.since, c.details, "bulk", 1)
        yield (*facts, c.state, winner, *code, None if c.state == "pending" else 5)


def _portions(rows: list[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    for start in range(0, len(rows), _AT_ONCE):
        yield rows[start : start + _AT_ONCE]
