"""What became of each row of a file, in the order of its lines, in memory that does not grow with the file.

The ledger knows the rows of an import in the order in which it recorded and merged them, and no index knows their
lines: it would have to be written for every row ever read. So what is asked for is put aside in a private file that
sorts it, and is gone when this is closed.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Select, literal, null, select

from consent.ledger.database import LedgerPart
from consent.ledger.schema import changes, imports, noop_changes, rejects
from consent.outcome import State

REJECTED = "rejected"
_AT_ONCE = 5_000
_FIRST = (State.DEAD, State.PENDING, State.APPLIED, State.UNCHANGED, State.SUPERSEDED)
"""Of a row that names several slots, the outcome that a person should see first."""


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """What became of the row that starts at a physical line: a state, or "rejected".

    `counts` says it of each of its changes; `code` and `reason` are those of the one that `outcome` is about.
    `settled_at` is in microseconds, None for what is pending or was rejected.
    """

    line: int
    outcome: str
    code: str | None
    reason: str | None
    settled_at: int | None
    counts: Counter[str]


@dataclass(frozen=True, slots=True)
class ImportedRows:
    """The rows of an import that are in the ledger, by line; those that are not were known already.

    `records` counts all of its rows. `fingerprint` and `sha256` tell its bytes (None: recorded before that was kept).
    """

    kind: str
    state: str
    records: int
    fingerprint: str
    sha256: str | None
    outcomes: Iterator[RowOutcome]


class ResultQueries(LedgerPart):
    """What became of the rows of a file."""

    @contextmanager
    def imported_rows(self, import_id: str) -> Iterator[ImportedRows]:
        """Give what became of the rows of an import, as it is at one moment; raises LedgerUnavailable."""
        with (
            tempfile.TemporaryDirectory(prefix="optrelay-") as folder,
            closing(sqlite3.connect(Path(folder) / "rows", isolation_level=None)) as spool,
        ):
            for statement in _SPOOL:
                spool.execute(statement)
            found = self.database.read(lambda tx: _spool(tx, spool, import_id))
            facts = (found.kind, found.state, found.records, found.fingerprint, found.sha256)
            yield ImportedRows(*facts, map(_outcome, groupby(spool.execute(_SORTED), itemgetter(0))))


# No other process reads its pages, and after a crash they are of no use.
_SPOOL = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA temp_store = FILE",
    "CREATE TABLE rows (line INTEGER, state TEXT, code TEXT, reason TEXT, settled_at INTEGER)",
)
_SORTED = "SELECT line, state, code, reason, settled_at FROM rows ORDER BY line"


def _spool(tx: Connection, spool: sqlite3.Connection, import_id: str) -> Row[Any]:
    found = tx.execute(select(imports).where(imports.c.id == import_id)).one()
    spool.execute("BEGIN")
    for query in _queries(found):
        with tx.execute(query, execution_options={"yield_per": _AT_ONCE}) as rows:
            while some := [tuple(row) for row in islice(rows, _AT_ONCE)]:
                spool.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", some)
    spool.execute("COMMIT")
    return found


def _queries(found: Row[Any]) -> Sequence[Select[Any]]:
    facts = (changes.c[name] for name in ("line", "state", "code", "reason", "settled_at"))
    due = found.state in ("merged", "released")
    noop = (literal((State.UNCHANGED if due else State.PENDING).value), null(), null(), literal(found.released_at))
    return (
        select(*facts).where(changes.c.import_id == found.id),
        select(noop_changes.c.line, *noop).where(noop_changes.c.import_id == found.id),
        select(rejects.c.line, literal(REJECTED), rejects.c.code, rejects.c.message, null()).where(
            rejects.c.import_id == found.id
        ),
    )


def _outcome(row: tuple[int, Iterable[tuple[Any, ...]]]) -> RowOutcome:
    line, each = row[0], list(row[1])
    parts = {state: (code, reason, settled_at) for _, state, code, reason, settled_at in each}
    first = next((state.value for state in _FIRST if state.value in parts), REJECTED)
    return RowOutcome(line, first, *parts[first], Counter(one[1] for one in each))
