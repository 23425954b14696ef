"""Reassigning what an import keeps back: its changes would otherwise be known and never delivered.

A file that could not be read to its end keeps its changes back, for it may be truncated. When an event says the same,
or a stream does, these changes belong to that source from then on. Another file notes what it says again, as pending
duplicates, and takes it over once it has been read whole: if it breaks off too, it must not have taken anything from
the first one, which may be gone on with and does not say it a second time.

The same holds for what is held until a person approves it, and for what was withdrawn: it blocks no other source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import cast

from sqlalchemy import Connection, and_, delete, or_, select, update

from consent.ledger.dialects.locks import RecordingLock
from consent.ledger.dialects.statements import NEW, UpdateEach, among, bulk, plain_rows
from consent.ledger.intake.batch import KEY, LINE, IncomingBatch
from consent.ledger.schema import changes, imports, pending_duplicates
from consent.outcome import State

CHUNK = 5_000

_UNREAD, _UNCHECKED = imports.c.state == "reading", and_(imports.c.state == "read", imports.c.checked_at.is_(None))
KEEPS_BACK = (or_(_UNREAD, _UNCHECKED), imports.c.stream == 0)
"""That an import keeps its changes back: a file that has not been read whole, or that guards may hold still."""

ASIDE = (State.HELD.value, State.WITHDRAWN.value)
IS_KEPT_BACK = or_(and_(*KEEPS_BACK), changes.c.state.in_(ASIDE))
"""That a change is kept back, beside its import: with its file, until a person approves it, or for ever."""

Known = tuple[int, str, int | None, str]
"""The number of a change that the ledger has, whose import it is, the line where another says it again, its state."""


def reassign_known(
    lock: RecordingLock, import_id: str, batch: IncomingBatch, state: State = State.PENDING
) -> dict[bytes, int]:
    """Make an import the owner of kept back changes that it says again; return their numbers by dedupe key.

    To be called after a lookup of the batch.
    """
    known = _known(lock.tx, batch)
    taken = reassign(lock, import_id, list(known.values()), state)
    return {key: number for key, (number, *_) in known.items() if number in taken}


def note_pending_duplicates(lock: RecordingLock, import_id: str, batch: IncomingBatch) -> None:
    """Note which changes that are kept back a file says again, for `reassign_noted`."""
    tx = lock.tx
    noted = [(import_id, number, line) for number, _, line, _ in _kept_back(tx, import_id, _known(tx, batch).values())]
    bulk(tx).insert(pending_duplicates, ("import_id", "change_id", "line"), noted, NEW)


def reassign_noted(lock: RecordingLock, import_id: str) -> int:
    """Take over the next of what a file noted that has been read whole; return how many it had noted (0: none is left).

    What the other import has published meanwhile stays its own.
    """
    tx, mine = lock.tx, pending_duplicates.c.import_id == import_id
    noted = (
        select(changes.c.id, changes.c.import_id, pending_duplicates.c.line, changes.c.state)
        .join(pending_duplicates, pending_duplicates.c.change_id == changes.c.id)
        .where(mine)
        .order_by(pending_duplicates.c.change_id)
        .limit(CHUNK)
    )
    if not (known := cast("list[Known]", plain_rows(tx.execute(noted)))):
        return 0
    taken, numbers = len(reassign(lock, import_id, known)), [number for number, *_ in known]
    tx.execute(delete(pending_duplicates).where(mine, among(pending_duplicates.c.change_id, numbers)))
    more = {"recorded": imports.c.recorded + taken, "duplicates": imports.c.duplicates - taken}
    tx.execute(update(imports).where(imports.c.id == import_id).values(steps=imports.c.steps + 1, **more))
    return len(known)


def reassign(lock: RecordingLock, import_id: str, known: Sequence[Known], state: State = State.PENDING) -> set[int]:
    """Make an import the owner of those of these changes that are kept back, in a state; return their numbers."""
    tx = lock.tx
    found = _kept_back(tx, import_id, known)
    if not found:
        return set()
    taken = {"owner": import_id, "state": state.value}
    bulk(tx).update_each(_TAKE, [{"which": number, "place": line} | taken for number, _, line, _ in found])
    losses: Counter[str] = Counter(owner for _, owner, *_ in found)
    bulk(tx).update_each(_LOSE, [{"which": other, "less": losses[other]} for other in sorted(losses)])
    return {number for number, *_ in found}


def _known(tx: Connection, batch: IncomingBatch) -> dict[bytes, Known]:
    target_of = {key: target for key, target in batch.target_of.items() if key in batch.known}
    line_of = {row[KEY]: row[LINE] for row in batch.rows}
    found = bulk(tx).select_changes("dedupe_key, changes.id, import_id, state", target_of.items())
    return {key: (number, owner, line_of[key], state) for key, number, owner, state in found}


def _kept_back(tx: Connection, import_id: str, known: Iterable[Known]) -> list[Known]:
    """Return which of these changes another import keeps back."""
    others = [one for one in known if one[1] != import_id]
    query = select(imports.c.id).where(*KEEPS_BACK)
    unread = query.with_for_update()  # its importer may be about to finish reading
    owners = sorted({owner for _, owner, _, state in others if state == State.PENDING.value})
    back = {owner for owner in owners if tx.execute(unread.where(imports.c.id == owner)).first() is not None}
    return [one for one in others if one[1] in back or one[3] in ASIDE]


_TAKE = UpdateEach(
    table="changes",
    types={"which": "bigint", "owner": "text", "place": "bigint", "state": "text"},
    values="import_id = {owner}, line = {place}, state = {state}, settled_at = NULL",
    where="id = {which}",
)
_LOSE = UpdateEach(
    table="imports",
    types={"which": "text", "less": "bigint"},
    values="recorded = recorded - {less}, duplicates = duplicates + {less}",
    where="id = {which}",
)
