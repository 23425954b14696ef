"""Taking over what an import recorded that broke off: its changes would otherwise be known and never delivered.

A file that could not be read to its end keeps its changes back, for it may be truncated. When an event says the same,
or a file that is told as it is read, these changes belong to that source from then on. Another file notes what it says
again and takes it over once it has been read whole: if it breaks off too, it must not have taken anything from the
first one, which may be gone on with and does not say it a second time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import cast

from sqlalchemy import Connection, delete, select, update

from consent.ledger.bulk import UpdateEach, among, insert_new, look_up_by_key, plain_rows
from consent.ledger.intake.batch import Heard
from consent.ledger.recorded import select_recorded
from consent.ledger.schema import changes, imports, said_again

CHUNK = 5_000

KEEPS_BACK = (imports.c.state == "reading", imports.c.stream == 0)
"""That an import keeps its changes back: a file that has not been read whole."""

Known = tuple[int, str, int | None]
"""The number of a change that the ledger has, whose import it is, and the line where another one says it again."""


def adopt(tx: Connection, import_id: str, heard: Heard) -> dict[bytes, int]:
    """Make an import the owner of unread imports' changes that it says again; return their numbers by dedupe key.

    To be called under the recording lock, after `recognise` or `set_repeats_aside`.
    """
    known = _known(tx, heard)
    taken = take_over(tx, import_id, list(known.values()))
    return {key: number for key, (number, _, _) in known.items() if number in taken}


def note_said_again(tx: Connection, import_id: str, heard: Heard) -> None:
    """Note which of unread imports' changes a file says again, for `take_over_noted`. To be called like `adopt`."""
    known = _known(tx, heard).values()
    unread = _kept_back(tx, {owner for _, owner, _ in known} - {import_id})
    noted = [(import_id, number, line) for number, owner, line in known if owner in unread]
    insert_new(tx, said_again, ("import_id", "change_id", "line"), noted)


def take_over_noted(tx: Connection, import_id: str) -> int:
    """Take over the next of what a file noted that has been read whole; return how many it had noted (0: none is left).

    What the other import has told meanwhile stays its own. To be called under the recording lock.
    """
    look_up_by_key(tx)
    mine = said_again.c.import_id == import_id
    noted = (
        select(changes.c.id, changes.c.import_id, said_again.c.line)
        .join(said_again, said_again.c.change_id == changes.c.id)
        .where(mine)
        .order_by(said_again.c.change_id)
        .limit(CHUNK)
    )
    if not (known := cast("list[Known]", plain_rows(tx.execute(noted)))):
        return 0
    taken = len(take_over(tx, import_id, known))
    tx.execute(delete(said_again).where(mine, among(tx, said_again.c.change_id, [number for number, _, _ in known])))
    more = {"recorded": imports.c.recorded + taken, "duplicates": imports.c.duplicates - taken}
    tx.execute(update(imports).where(imports.c.id == import_id).values(steps=imports.c.steps + 1, **more))
    return len(known)


def take_over(tx: Connection, import_id: str, known: Sequence[Known]) -> set[int]:
    """Make an import the owner of those of these changes that unread imports keep back; return their numbers.

    To be called under the recording lock.
    """
    unread = _kept_back(tx, {owner for _, owner, _ in known} - {import_id})
    found = [one for one in known if one[1] in unread]
    if not found:
        return set()
    look_up_by_key(tx)
    _TAKE.run(tx, [{"which": number, "owner": import_id, "place": line} for number, _, line in found])
    losses: Counter[str] = Counter(owner for _, owner, _ in found)
    _LOSE.run(tx, [{"which": other, "less": losses[other]} for other in sorted(losses)])
    return {number for number, _, _ in found}


def _known(tx: Connection, heard: Heard) -> dict[bytes, Known]:
    whose = {key: target for key, target in heard.whose.items() if key in heard.known}
    line_of = dict(zip(heard.keys, heard.lines, strict=True))
    found = select_recorded(tx, "dedupe_key, changes.id, import_id", whose)
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
