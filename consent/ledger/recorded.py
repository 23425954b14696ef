"""What the ledger has of the words that come in: changes by target and dedupe key, registers by target key and slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson
from sqlalchemy import BigInteger, ColumnElement, Connection, literal, select, tuple_

from consent.ledger.bulk import Row, driver, look_up_by_key, plain_rows
from consent.ledger.keys import KEY_BYTES
from consent.ledger.schema import changes

Held = tuple[int, Any, Any, Any, Any]
"""A target's number, and of one of its slots `newest_at`, `newest_action`, `newest_key` and `confirmed`."""


def select_registers(tx: Connection, targets: Sequence[bytes], slots: Sequence[str]) -> list[Held | None]:
    """Return what the slots of some words hold, whose targets' keys and slots these are, side by side.

    None stands for a word about a target that the ledger does not know; a slot that has no register holds nothing.
    """
    if tx.dialect.name == "postgresql":
        look_up_by_key(tx)
        with driver(tx, binary=True) as cursor:
            rows = cursor.execute(_REGISTERS_IN_POSTGRESQL, (targets, slots)).fetchall()
    else:
        asked = {"slots": orjson.dumps(slots).decode(), "keys": b"".join(targets)}
        rows = plain_rows(tx.exec_driver_sql(_REGISTERS_IN_SQLITE, asked))
    held: list[Held | None] = [None] * len(targets)
    for row in rows:
        held[row[0]] = row[1:]
    return held


def select_recorded(
    tx: Connection, columns: str, whose: Mapping[bytes, int] | Sequence[tuple[bytes, int]]
) -> list[Row]:
    """Return columns of the recorded ones of these changes, which are dedupe keys, each with its target's number.

    Each is looked up, however many there are. It is the driver's own statement: Core would take as long again.
    """
    if not whose:
        return []
    keys, numbers = zip(*(whose.items() if isinstance(whose, Mapping) else whose), strict=True)
    if tx.dialect.name == "postgresql":
        look_up_by_key(tx)
        with driver(tx, binary=True) as cursor:
            said = f"SELECT {columns} {_IN_POSTGRESQL}"
            return cast("list[Row]", cursor.execute(said, (list(numbers), list(keys))).fetchall())
    asked = {"targets": orjson.dumps(numbers).decode(), "keys": b"".join(keys)}
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
# LIMIT makes each lookup one by the whole key: of a join, the planner may read all slots of a target for each word.
_REGISTERS_IN_POSTGRESQL = """
    SELECT place - 1, who.id, held.newest_at, held.newest_action, held.newest_key, held.confirmed
    FROM unnest(%b::bytea[], %b::text[]) WITH ORDINALITY AS said(target, slot, place)
    CROSS JOIN LATERAL (SELECT id FROM targets WHERE target_key = said.target LIMIT 1) AS who
    LEFT JOIN LATERAL (
        SELECT newest_at, newest_action, newest_key, confirmed FROM slots
        WHERE target_id = who.id AND slot = said.slot LIMIT 1
    ) AS held ON true
"""
_REGISTERS_IN_SQLITE = f"""
    SELECT said.key, targets.id, newest_at, newest_action, newest_key, confirmed
    FROM json_each(:slots) AS said
    CROSS JOIN targets ON target_key = substr(:keys, said.key * {KEY_BYTES} + 1, {KEY_BYTES})
    LEFT JOIN slots ON slots.target_id = targets.id AND slots.slot = said.value
"""  # noqa: S608 - names of our own
