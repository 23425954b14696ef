"""Taking over what an import recorded that broke off: its changes would otherwise be known and never delivered.

A file that could not be read to its end keeps its changes back, for it may be truncated. When another file says the
same, these changes belong to that file from then on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from consent.ledger.bulk import UpdateEach, among, look_up_by_key, portions
from consent.ledger.schema import changes, imports


def adopt(tx: Connection, import_id: str, keys: Sequence[bytes], lines: Sequence[int | None]) -> dict[bytes, int]:
    """Make an import the owner of unread imports' changes with these dedupe keys; return their numbers by key."""
    found = [row for some in portions(keys) for row in tx.execute(_kept_back(tx, some, import_id)).all()]
    if not found:
        return {}
    line_of = dict(zip(keys, lines, strict=True))
    rows = [{"which": row.id, "owner": import_id, "place": line_of[row.dedupe_key]} for row in found]
    look_up_by_key(tx)
    _TAKE.run(tx, rows)
    losses: Counter[str] = Counter(row.import_id for row in found)
    _LOSE.run(tx, [{"which": other, "less": losses[other]} for other in sorted(losses)])
    return {row.dedupe_key: row.id for row in found}


def _kept_back(tx: Connection, keys: Sequence[bytes], import_id: str) -> Any:
    return (
        select(changes.c.id, changes.c.dedupe_key, changes.c.import_id)
        .join(imports, imports.c.id == changes.c.import_id)
        .where(
            among(tx, changes.c.dedupe_key, keys),
            imports.c.id != import_id,
            imports.c.state == "reading",
            imports.c.stream == 0,
        )
        .with_for_update(of=imports)  # its importer may be about to finish reading
    )


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
