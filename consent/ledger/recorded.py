"""The changes that the ledger has, found by what they are known by: their target's number and their dedupe key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import orjson
from sqlalchemy import Connection

from consent.ledger.bulk import Row, driver, look_up_by_key, plain_rows
from consent.ledger.keys import KEY_BYTES


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


_IN_POSTGRESQL = (
    "FROM unnest(%b::bigint[], %b::bytea[]) AS said(target, key) "
    "JOIN changes ON target_id = said.target AND dedupe_key = said.key"
)
# A CROSS JOIN is done in the order in which it is written: never all changes first.
_IN_SQLITE = (
    "FROM json_each(:targets) AS said CROSS JOIN changes "
    f"ON target_id = said.value AND dedupe_key = substr(:keys, said.key * {KEY_BYTES} + 1, {KEY_BYTES})"
)
