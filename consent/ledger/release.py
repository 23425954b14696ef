"""Making an import's changes due once its file has been read whole: so each customer costs one call.

First every word is held against its slot's register, chunk by chunk; only then are customer tasks made, so that no
customer becomes due before the last of his rows has been weighed. Both passes keep their place in `folded_to` and
may be interrupted anywhere.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, Row, select, update

from consent.ledger.database import Database
from consent.ledger.register import fold, one_fold_at_a_time
from consent.ledger.repeats import weigh
from consent.ledger.schema import changes, imports
from consent.ledger.tasks import make_due

CHUNK = 10_000

_NEXT = {"read": "folded", "folded": "released"}


def release(
    database: Database,
    import_id: str,
    now: Callable[[], int],
    *,
    reassert: bool,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Make the changes of an import that was read whole due; resumable, and harmless if it has been done."""
    while (step := database.write(lambda tx: _step(tx, import_id, now(), reassert=reassert))) is not None:
        if on_progress is not None:
            on_progress(step)


Place = tuple[str, int, int]
"""How far the release of an import has come."""


def unreleased(database: Database) -> dict[str, Place]:
    """Return the imports that have been read whole but whose changes are not all due yet, and how far each has come."""
    query = select(imports.c.id, imports.c.state, imports.c.folded_to, imports.c.weighed_to)
    rows = database.read(lambda tx: tx.execute(query.where(imports.c.state.in_(_NEXT))).all())
    return {import_id: (state, folded_to, weighed_to) for import_id, state, folded_to, weighed_to in rows}


def _step(tx: Connection, import_id: str, now: int, *, reassert: bool) -> int | None:
    row = tx.execute(select(imports).where(imports.c.id == import_id).with_for_update()).one()
    if row.state not in _NEXT:
        return None
    meant = (changes.c.import_id == row.id, changes.c.id > row.folded_to)
    if row.state == "read":
        if (weighed := weigh(tx, row, now=now, reassert=reassert)) is not None:
            return weighed
        last = fold(tx, meant, CHUNK, now=now, reassert=reassert)
    else:
        # Else a word could become due, be claimed and told while a newer one is found to be so already.
        one_fold_at_a_time(tx)
        last = make_due(tx, meant, CHUNK, now=now)
    if last is None:
        return _advance(tx, row, now)
    tx.execute(update(imports).where(imports.c.id == import_id).values(folded_to=last))
    return CHUNK


def _advance(tx: Connection, row: Row[tuple[object, ...]], now: int) -> int | None:
    state = _NEXT[row.state]
    values = {"state": state, "folded_to": 0}
    if state == "released":
        values["released_at"] = now
    tx.execute(update(imports).where(imports.c.id == row.id).values(**values))
    return 0
