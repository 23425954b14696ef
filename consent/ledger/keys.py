"""By what the ledger finds targets and changes: the keyed hashes of both, and the names that targets have had.

A target is known by a hash of its whole address. Someone who is asked about by e-mail alone is found only if it is
known under which `source` and `source_account_id` addresses have been recorded. So their forms are kept: a ledger has
few, whatever it holds, and none of them names a person. Revision 0011 made one target of each person, and noted what
else people and files may call it by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any

import orjson
from sqlalchemy import BigInteger, Column, ColumnElement, Connection, Table, Text, case, literal, or_, select

from consent.change import Action, ConsentChange
from consent.identifiers.identity import identity_of
from consent.ledger.dialects.statements import NEW, Row, bulk, plain_rows
from consent.ledger.schema import Key, metadata, targets

KEY_BYTES = 16
_HINT_BYTES = 4  # of a target's hash: enough to find the few targets that a change may be about

target_aliases = Table(
    "target_aliases",
    metadata,
    Column("target_key", Key, primary_key=True),
    Column("target_id", BigInteger, nullable=False),
)
"""Other keys under which a target is known: those of targets that were merged into it though their names differ."""

former_ids = Table(
    "former_ids", metadata, Column("key", Key, primary_key=True), Column("change_id", BigInteger, nullable=False)
)
"""The keys of changes that have another one now: outsiders were given them as ids."""

address_forms = Table(
    "address_forms",
    metadata,
    Column("connection", Text, primary_key=True),
    Column("form", Text, primary_key=True),
)
"""Every form that an address of a connection has had."""

LOOKED_UP_BY = ("identifier_name", "source", "source_account_id")
"""Columns whose values belong to the form: they say what kind of name it is and where it is looked up."""

EMAIL, DOMAIN, NUMBER = "@", ".", "+"
"""What stands for a destination in a form."""

Form = Mapping[str, str]


class Keys:
    """Computes keys with one ledger's secret; without it they cannot be computed from a person's data.

    Serves one batch of changes whose `details` stay in memory meanwhile.
    """

    def __init__(self, secret: bytes) -> None:
        self._fresh: Callable[[], Any] = blake2b(key=secret, digest_size=KEY_BYTES).copy
        self._texts: dict[int, str] = {}

    def of(self, change: ConsentChange, since: int) -> tuple[bytes, str, bytes, str]:
        """Return hash and address of a change's target, as `target` does, and its own hash and details, as `change`."""
        target, address = self.target(change.connection, change.address)
        return target, address, *self.change(target, change, since)

    def target(self, connection: str, address: Mapping[str, str]) -> tuple[bytes, str]:
        """Return the hash that stands for a target, whatever the spelling of its address, and the address as text."""
        text, identity = canonical(address), identity_of(address)
        named = text if identity is address else canonical(identity)
        return self._hash(f"{connection}\0{named}".encode()), text

    def identity(self, connection: str, address: Mapping[str, str]) -> bytes:
        """Return the same hash of an address that is in its one spelling (`identity_of`)."""
        return self._hash(f"{connection}\0{canonical(address)}".encode())

    def change(self, target: bytes, change: ConsentChange, since: int) -> tuple[bytes, str]:
        """Return the hash by which the same change is known again, from the same file or another, and its details.

        The details are canonical text, as the ledger writes them; `since` is the change's own time, in microseconds.

        With a `change_id` that is its sender's own word for sameness, whatever it says about reasons; otherwise a
        change is the same if it says the same. A change_id used again for another target, slot or action is another
        change, and so it is for another time (`timed_key`): nothing is lost by a sender's mistake.
        """
        details = self._texts.get(id(change.details))  # many changes of a file share theirs
        if details is None:
            details = self._texts[id(change.details)] = canonical(change.details)
        if change.change_id is None:
            content = f"{since}\0{details}"
        else:
            content = f"id\0{change.change_id}" + (f"\0{change.sender}" if change.sender else "")
        return self._change(target, change, content), details

    def without_sender(self, target: bytes, change: ConsentChange) -> bytes:
        """Return the hash of a change with a `change_id` as it was before the sender belonged to it."""
        return self._change(target, change, f"id\0{change.change_id}")

    def _change(self, target: bytes, change: ConsentChange, content: str) -> bytes:
        action = _OPTOUT_TEXT if change.action is _OPTOUT else _OPTIN_TEXT
        return self._hash(target + f"{change.slot}\0{action}\0{content}".encode())

    def _hash(self, data: bytes) -> bytes:
        hashing = self._fresh()
        hashing.update(data)
        digest: bytes = hashing.digest()
        return digest


def target_key(secret: bytes, connection: str, address: Mapping[str, str]) -> bytes:
    """Return the hash that stands for one target, whatever the spelling of its address."""
    return Keys(secret).target(connection, address)[0]


def dedupe_key(secret: bytes, target: bytes, change: ConsentChange) -> bytes:
    """Return the hash by which one change is known again."""
    return Keys(secret).change(target, change, change.effective_at)[0]


def timed_key(key: bytes, since: int) -> bytes:
    """Return the key of a change whose id, and so whose key, another change has that holds since another time."""
    return blake2b(key + since.to_bytes(8, "big", signed=True), digest_size=KEY_BYTES).digest()


def public_id(target: bytes, key: bytes) -> str:
    """Return the id under which outsiders know a change: a hint at its target, by which it is found, and its key."""
    return (target[:_HINT_BYTES] + key).hex()


def parse_public_id(text: str) -> tuple[bytes, bytes] | None:
    """Return the hint at the target and the key of the change, or None if this is no id.

    The hint is empty in ids of before revision 0006 of the ledger, which were the key alone.
    """
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return None
    return (raw[:-KEY_BYTES], raw[-KEY_BYTES:]) if len(raw) in {KEY_BYTES, _HINT_BYTES + KEY_BYTES} else None


_OPTOUT, _OPTOUT_TEXT, _OPTIN_TEXT = Action.OPTOUT, Action.OPTOUT.value, Action.OPTIN.value


def canonical(value: Mapping[str, Any]) -> str:
    """Return a mapping as JSON that is the same whenever the mapping is."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


_ALIASES = (
    "targets.target_key, target_aliases.target_key FROM target_aliases JOIN targets ON targets.id = target_id "
    "WHERE target_aliases.target_key"
)


def is_known_as(key: bytes) -> ColumnElement[bool]:
    """Say that a target has this key, or was merged with one that had it."""
    return or_(
        targets.c.target_key == key,
        targets.c.id.in_(select(target_aliases.c.target_id).where(target_aliases.c.target_key == key)),
    )


_ANY_ALIAS = select(target_aliases.c.target_id).limit(1)


def aliases_of(tx: Connection, keys: Iterable[bytes]) -> list[Row]:
    """Return which of these keys are aliases: the key of the target, and the alias. Few ledgers have any."""
    if tx.execute(_ANY_ALIAS).first() is None:
        return []
    return bulk(tx).select_by_key(_ALIASES, list(keys))


def under_main_keys(
    tx: Connection, rows: list[Row], targets_: Mapping[bytes, Row], place: int
) -> tuple[list[Row], Mapping[bytes, Row]]:
    """Let rows about targets that were merged into others be about those; `place` is that of a row's target."""
    others = {alias: key for key, alias in aliases_of(tx, targets_)}
    if not others:
        return rows, targets_
    renamed = [(*row[:place], others.get(row[place], row[place]), *row[place + 1 :]) for row in rows]
    return renamed, {others.get(key, key): (others.get(key, key), *row[1:]) for key, row in targets_.items()}


def form_of(address: Mapping[str, str]) -> dict[str, str]:
    """Return the form of an address: the same columns, with the values that name no person."""
    return {
        name: value if name in LOOKED_UP_BY else _destination(value) if name == "destination" else ""
        for name, value in address.items()
    }


def _destination(value: str) -> str:
    return EMAIL if EMAIL in value else DOMAIN if DOMAIN in value else NUMBER


def note_forms(tx: Connection, addresses: Iterable[tuple[str, str]]) -> None:
    """Note the forms of new targets: each a connection, and an address as text. To be called under a RecordingLock."""
    new = {(connection, canonical(form_of(orjson.loads(address)))) for connection, address in addresses}
    known = set(plain_rows(tx.execute(_FORMS)))
    if missing := sorted(new - known):
        bulk(tx).insert(address_forms, ("connection", "form"), missing, NEW)


_FORMS = select(address_forms)


def known_forms(tx: Connection) -> dict[str, list[Form]]:
    """Return the forms that there are, by connection."""
    found: dict[str, list[Form]] = {}
    for connection, form in plain_rows(tx.execute(_FORMS)):
        found.setdefault(connection, []).append(orjson.loads(form))
    return found


def form_columns(tx: Connection) -> list[ColumnElement[str | None]]:
    """Return SQL for what tells kinds of names apart in `targets.address`, as `read_form` takes it."""
    text = bulk(tx).json_text
    destination = text(targets.c.address, "destination")
    kinds = ((destination.like("%@%"), EMAIL), (destination.like("%.%"), DOMAIN), (destination.is_not(None), NUMBER))
    user = case((text(targets.c.address, "user_id").is_not(None), literal("")), else_=None)
    return [user, text(targets.c.address, "identifier_name"), case(*kinds, else_=None)]


def read_form(user: str | None, identifier: str | None, destination: str | None) -> Form:
    """Return so much of a form as tells its kind of name."""
    parts = {"user_id": user, "identifier_name": identifier, "destination": destination}
    return {name: value for name, value in parts.items() if value is not None}
