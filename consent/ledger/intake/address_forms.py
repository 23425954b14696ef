"""The forms of the addresses that the ledger holds: which columns they have, and where a name is looked up.

A target is known by a hash of its whole address. Someone who is asked about by e-mail alone is found only if it is
known under which `source` and `source_account_id` addresses have been recorded. A ledger has few forms, whatever it
holds, and none of them names a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson
from sqlalchemy import Column, ColumnElement, Connection, Table, Text, case, literal, select

from consent.ledger.dialects.statements import NEW, bulk
from consent.ledger.keys import canonical
from consent.ledger.schema import metadata, targets

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
