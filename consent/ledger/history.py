"""The story of the targets that some columns name: what was said about them, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson
from sqlalchemy import ColumnElement, Connection, Row, and_, or_, select

from consent.ledger.database import Database
from consent.ledger.one_change import ChangeReport, changes_of
from consent.ledger.schema import slots, targets


@dataclass(frozen=True, slots=True)
class SlotNow:
    """A slot's newest word and the moment since when it holds (microseconds, also of words that only repeated it).

    `confirmed` is what the provider is confirmed to hold (None: not known).
    """

    slot: str
    action: str
    since: int
    confirmed: str | None


@dataclass(frozen=True, slots=True)
class History:
    """A target, its slots as they are now, and every change about it. `address` names the person."""

    connection: str
    address: Mapping[str, str] = field(repr=False)
    slots: Sequence[SlotNow]
    changes: Sequence[ChangeReport]


def histories(
    database: Database, named: Sequence[Mapping[str, str]], connection: str | None, limit: int
) -> list[History]:
    """Return the stories of at most `limit` targets whose address holds all of one of these sets of columns.

    No index knows what an address holds: all targets are read. Raises LedgerUnavailable.
    """
    wanted = [targets.c.connection == connection] if connection else []
    query = select(targets.c.id, targets.c.connection, targets.c.address)
    near = query.where(or_(*map(_holds, named)), *wanted).order_by(targets.c.id)

    def work(tx: Connection) -> list[History]:
        found = [row for row in tx.execute(near) if any(_names(row, columns) for columns in named)]
        return [_history(tx, row) for row in found[:limit]]

    return database.read(work)


def _holds(columns: Mapping[str, str]) -> ColumnElement[bool]:
    """Say that the address, which is JSON without blanks, has these columns; SQLite takes no notice of case."""
    parts = (orjson.dumps({name: value}).decode()[1:-1] for name, value in columns.items())
    return and_(*(targets.c.address.contains(part, autoescape=True) for part in parts))


def _names(row: Row[int, str, str], columns: Mapping[str, str]) -> bool:
    address: dict[str, str] = orjson.loads(row.address)
    return columns.items() <= address.items()


def _history(tx: Connection, row: Row[int, str, str]) -> History:
    now = select(slots.c.slot, slots.c.newest_action, slots.c.newest_at, slots.c.confirmed)
    registers = tx.execute(now.where(slots.c.target_id == row.id).order_by(slots.c.slot))
    return History(
        row.connection,
        orjson.loads(row.address),
        [SlotNow(*register) for register in registers],
        changes_of(tx, row.id),
    )
