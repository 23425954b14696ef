"""Reassigning what an import recorded that broke off: its changes would otherwise be known and never delivered.

A file that could not be read to its end keeps its changes back, for it may be truncated. When an event says the same,
or a stream does, these changes belong to that source from then on. Another file notes what it says again, as pending
duplicates, and takes it over once it has been read whole: if it breaks off too, it must not have taken anything from
the first one, which may be gone on with and does not say it a second time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import cast

from sqlalchemy import Connection, delete, select, update

from consent.ledger.dialects.locks import RecordingLock
from consent.ledger.dialects.statements import UpdateEach, among, insert_new, plain_rows, select_changes
from consent.ledger.intake.batch import IncomingBatch
from consent.ledger.schema import changes, imports, pending_duplicates

CHUNK = 5_000

KEEPS_BACK = (imports.c.state == "reading", imports.c.stream == 0)
"""That an import keeps its changes back: a file that has not been read whole."""

Known = tuple[int, str, int | None]
"""The number of a change that the ledger has, whose import it is, and the line where another one says it again."""


def reassign_known(lock: RecordingLock, import_id: str, batch: IncomingBatch) -> dict[bytes, int]:
    """Make an import the owner of unread imports' changes that it says again; return their numbers by dedupe key.

    To be called after a lookup of the batch.
    """
    known = _known(lock.tx, batch)
    taken = reassign(lock, import_id, list(known.values()))
    return {key: number for key, (number, _, _) in known.items() if number in taken}


def note_pending_duplicates(lock: RecordingLock, import_id: str, batch: IncomingBatch) -> None:
    """Note which of unread imports' changes a file says again, for `reassign_noted`."""
    tx, known = lock.tx, _known(lock.tx, batch).values()
    unread = _kept_back(tx, {owner for _, owner, _ in known} - {import_id})
    noted = [(import_id, number, line) for number, owner, line in known if owner in unread]
    insert_new(tx, pending_duplicates, ("import_id", "change_id", "line"), noted)


def reassign_noted(lock: RecordingLock, import_id: str) -> int:
    """Take over the next of what a file noted that has been read whole; return how many it had noted (0: none is left).

    What the other import has published meanwhile stays its own.
    """
    tx, mine = lock.tx, pending_duplicates.c.import_id == import_id
    noted = (
        select(changes.c.id, changes.c.import_id, pending_duplicates.c.line)
        .join(pending_duplicates, pending_duplicates.c.change_id == changes.c.id)
        .where(mine)
        .order_by(pending_duplicates.c.change_id)
        .limit(CHUNK)
    )
    if not (known := cast("list[Known]", plain_rows(tx.execute(noted)))):
        return 0
    taken, numbers = len(reassign(lock, import_id, known)), [number for number, _, _ in known]
    tx.execute(delete(pending_duplicates).where(mine, among(tx, pending_duplicates.c.change_id, numbers)))
    more = {"recorded": imports.c.recorded + taken, "duplicates": imports.c.duplicates - taken}
    tx.execute(update(imports).where(imports.c.id == import_id).values(steps=imports.c.steps + 1, **more))
    return len(known)


def reassign(lock: RecordingLock, import_id: str, known: Sequence[Known]) -> set[int]:
    """Make an import the owner of those of these changes that unread imports keep back; return their numbers."""
    tx = lock.tx
    unread = _kept_back(tx, {owner for _, owner, _ in known} - {import_id})
    found = [one for one in known if one[1] in unread]
    if not found:
        return set()
    _TAKE.run(tx, [{"which": number, "owner": import_id, "place": line} for number, _, line in found])
    losses: Counter[str] = Counter(owner for _, owner, _ in found)
    _LOSE.run(tx, [{"which": other, "less": losses[other]} for other in sorted(losses)])
    return {number for number, _, _ in found}


def _known(tx: Connection, batch: IncomingBatch) -> dict[bytes, Known]:
    target_of = {key: target for key, target in batch.target_of.items() if key in batch.known}
    line_of = dict(zip(batch.keys, batch.lines, strict=True))
    found = select_changes(tx, "dedupe_key, changes.id, import_id", target_of)
    return {key: (number, owner, line_of[key]) for key, number, owner in found}


def _kept_back(tx: Connection, others: Iterable[str]) -> set[str]:
    query = select(imports.c.id).where(*KEEPS_BACK)
    unread = query.with_for_update()  # its importer may be about to finish reading
    return {owner for owner in sorted(others) if tx.execute(unread.where(imports.c.id == owner)).first() is not None}


_TAKE = UpdateEach(
    table="changes",
    types={"which": "bigint", "owner": "text", "place": "bigint"},
    values="import_id = {owner}, line = {place}",
    where="id = {which}",
)
_LOSE = UpdateEach(
    table="imports",
    types={"which": "text", "less": "bigint"},
    values="recorded = recorded - {less}, duplicates = duplicates + {less}",
    where="id = {which}",
)
