"""The changes that the ledger has, found by what they are known by: their target's number and their dedupe key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import orjson
from sqlalchemy import BigInteger, ColumnElement, Connection, literal, select, tuple_

from consent.ledger.bulk import Row, driver, look_up_by_key, plain_rows
from consent.ledger.keys import KEY_BYTES
from consent.ledger.schema import changes


def select_recorded(tx: Connection, columns: str, whose: Mapping[bytes, int]) -> list[Row]:
    """Return columns of the recorded ones of these changes, which are dedupe keys, each with its target's number.

    Each is looked up, however many there are. It is the driver's own statement: Core would take as long again.
    """
    if not whose:
        return []
    if tx.dialect.name == "postgresql":
        look_up_by_key(tx)
        with driver(tx, binary=True) as cursor:
            said = f"SELECT {columns} {_IN_POSTGRESQL}"
            return cast("list[Row]", cursor.execute(said, (list(whose.values()), list(whose))).fetchall())
    asked = {"targets": orjson.dumps(list(whose.values())).decode(), "keys": b"".join(whose)}
    return plain_rows(tx.exec_driver_sql(f"SELECT {columns} {_IN_SQLITE}", asked))


def first_of(tx: Connection, import_id: str, after: int, *which: ColumnElement[bool]) -> int | None:
    """Return the number of an import's first such change behind a number, or None; no other import's are read.

    PostgreSQL is then to look rows up by their keys, and does so from here on.
    """
    look_up_by_key(tx)
    # Of the two in one word: each on its own, PostgreSQL may go through the numbers of all imports.
    place = tuple_(changes.c.import_id, changes.c.id)
    first, last = (tuple_(literal(import_id), literal(number, BigInteger)) for number in (after, _LAST))
    query = select(changes.c.id).where(place > first, place <= last, *which)
    return tx.execute(query.order_by(changes.c.import_id, changes.c.id).limit(1)).scalar()


_LAST = 2**63 - 1
_IN_POSTGRESQL = (
    "FROM unnest(%b::bigint[], %b::bytea[]) AS said(target, key) "
    "JOIN changes ON target_id = said.target AND dedupe_key = said.key"
)
# A CROSS JOIN is done in the order in which it is written: never all changes first.
_IN_SQLITE = (
    "FROM json_each(:targets) AS said CROSS JOIN changes "
    f"ON target_id = said.value AND dedupe_key = substr(:keys, said.key * {KEY_BYTES} + 1, {KEY_BYTES})"
)
