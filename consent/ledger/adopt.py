"""Taking over what an import recorded that broke off: its changes would otherwise be known and never delivered.

A file that could not be read to its end keeps its changes back, for it may be truncated. When another file says the
same, these changes belong to that file from then on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, select

from consent.ledger.bulk import UpdateEach, look_up_by_key
from consent.ledger.hearing import Heard
from consent.ledger.recorded import select_recorded
from consent.ledger.schema import imports


def adopt(tx: Connection, import_id: str, heard: Heard) -> dict[bytes, int]:
    """Make an import the owner of unread imports' changes that it says again; return their numbers by dedupe key.

    To be called while nobody else records, after `recognise` or `set_repeats_aside`.
    """
    whose = {key: target for key, target in heard.whose.items() if key in heard.known}
    known = select_recorded(tx, "dedupe_key, changes.id, import_id", whose)
    line_of = dict(zip(heard.keys, heard.lines, strict=True))
    taken = take_over(tx, import_id, [(number, owner, line_of[key]) for key, number, owner in known])
    return {key: number for key, number, _ in known if number in taken}


def take_over(tx: Connection, import_id: str, known: Sequence[tuple[int, str, int | None]]) -> set[int]:
    """Make an import the owner of those of these changes that unread imports keep back; return their numbers.

    Each is told with its owner and the line where this import says it again. To be called while nobody else records.
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


def _kept_back(tx: Connection, others: Iterable[str]) -> set[str]:
    query = select(imports.c.id).where(imports.c.state == "reading", imports.c.stream == 0)
    unread = query.order_by(imports.c.id).with_for_update()  # its importer may be about to finish reading
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
