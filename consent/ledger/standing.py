"""What every slot's newest word is and what became of it: to compare the ledger with a provider."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy import select

from consent.change import Action
from consent.ledger.database import Database
from consent.ledger.schema import changes, slots, targets
from consent.outcome import State


@dataclass(frozen=True, slots=True)
class Standing:
    """The newest word of one slot."""

    connection: str
    address: Mapping[str, str] = field(repr=False)
    slot: str
    action: Action
    state: State


def standing_words(database: Database) -> Iterator[Standing]:
    """Give the newest word of every slot; all of them are held in memory."""
    query = (
        select(targets.c.connection, targets.c.address, slots.c.slot, slots.c.newest_action, changes.c.state)
        .join(targets, targets.c.id == slots.c.target_id)
        .join(changes, changes.c.id == slots.c.newest_id)
        .order_by(slots.c.target_id, slots.c.slot)
    )
    for row in database.read(lambda tx: tx.execute(query).all()):
        yield Standing(row[0], json.loads(row[1]), row[2], Action(row[3]), State(row[4]))
