"""The names by which the ledger finds targets: those of before, and the forms that its addresses have.

Revision 0011 made one target of each person, and noted here what else people and files may call it by.

A target is known by a hash of its whole address. Someone who is asked about by e-mail alone is found only if it is
known under which `source` and `source_account_id` addresses have been recorded. A ledger has few forms, whatever it
holds, and none of them names a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson
from sqlalchemy import BigInteger, Column, ColumnElement, Connection, Table, Text, case, literal, or_, select

from consent.ledger.dialects.statements import NEW, Row, bulk
from consent.ledger.keys import canonical
from consent.ledger.schema import Key, metadata, targets

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


def aliases_of(tx: Connection, keys: Iterable[bytes]) -> list[Row]:
    """Return which of these keys are aliases: the key of the target, and the alias. Few ledgers have any."""
    if tx.execute(select(target_aliases.c.target_id).limit(1)).first() is None:
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
    known = {(connection, form) for connection, form in tx.execute(select(address_forms))}
    if missing := sorted(new - known):
        bulk(tx).insert(address_forms, ("connection", "form"), missing, NEW)


def known_forms(tx: Connection) -> dict[str, list[Form]]:
    """Return the forms that there are, by connection."""
    found: dict[str, list[Form]] = {}
    for connection, form in tx.execute(select(address_forms)):
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
    said = {"user_id": user, "identifier_name": identifier, "destination": destination}
    return {name: value for name, value in said.items() if value is not None}
