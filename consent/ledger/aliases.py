"""Names of before: of targets that were merged into others, and of changes that are known by another key now.

Revision 0011 made one target of each person and noted here what else people and files may call it by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import BigInteger, Column, ColumnElement, Connection, Table, or_, select

from consent.ledger.dialects.statements import Row, bulk
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


_ALIASES = (
    "targets.target_key, target_aliases.target_key FROM target_aliases JOIN targets ON targets.id = target_id "
    "WHERE target_aliases.target_key"
)
