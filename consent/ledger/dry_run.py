"""A dry run: a private ledger that knows as much of the real one as some changes need, to see what would happen.

The real ledger is only read. It has the same hash key, the dedupe keys that the real one has seen and the
registers of the slots that are touched, so recording and releasing there has the same results.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, event, func, select, update

from consent.change import ConsentChange
from consent.deadlines.rules import DeadlineRules
from consent.guards.findings import Finding
from consent.imports import ImportProgress
from consent.ledger.database import HASH_KEY, Database
from consent.ledger.dialects.statements import NEW, Row, bulk
from consent.ledger.intake.batch import IncomingBatch
from consent.ledger.intake.imports import find_import, progress_of
from consent.ledger.intake.reassign import ASIDE, KEEPS_BACK
from consent.ledger.keys import aliases_of, target_aliases
from consent.ledger.ledger import Ledger
from consent.ledger.review.guard_checks import predict
from consent.ledger.schema import changes, imports, info, slots, targets
from consent.reassert import Reassert, ReassertRules

_KNOWN_COLUMNS = (
    *("id", "dedupe_key", "import_id", "target_id", "slot", "action", "value", "effective_at"),
    *("details", "origin", "recorded_at", "state"),
)
_FACTS = "changes.id, dedupe_key, import_id, state, slot, action, changes.value, effective_at, details"
_FAR_AHEAD = 2**40
"""The distance between the numbers of real and of imagined changes: the real ledger may grow meanwhile."""

_TARGET_COLUMNS = ("target_key", "connection", "bucket", "address")
_SLOT_COLUMNS = (
    *("target_id", "slot", "newest_id", "newest_at", "newest_action", "confirmed", "confirmed_at", "newest_key"),
)
_REGISTERS = (
    f"target_key, {', '.join(_SLOT_COLUMNS[1:])} "
    "FROM targets JOIN slots ON slots.target_id = targets.id WHERE target_key"
)


class DryRunLedger(Ledger):
    """An empty ledger in a file, whose changes are numbered behind those of the `real` one (None: there is none)."""

    def __init__(
        self, path: Path, real: Ledger | None, *, reassert: ReassertRules, deadline_rules: DeadlineRules | None = None
    ) -> None:
        super().__init__(f"sqlite:///{path}", reassert=reassert, deadline_rules=deadline_rules)
        self._real = None if real is None else real.database
        event.listen(self.database.engine, "connect", _careless)
        self.maintenance.migrate()
        if self._real is not None:
            self.database.write(partial(_follow, real=self._real))

    def known_import(self, fingerprint: str, reassert: Reassert | None) -> ImportProgress | None:
        """Return how far the real ledger has come with these bytes, or None if it would begin with them."""
        if self._real is None:
            return None
        row = self._real.read(lambda tx: find_import(tx, fingerprint, reassert)[1])
        return None if row is None else progress_of(row)

    def copy_known(self, incoming: Sequence[ConsentChange], unfinished: str | None) -> None:
        """Copy what the real ledger knows about these changes.

        Changes of the import `unfinished`, which is being gone on with, count as not seen yet, and so do those of files
        that broke off: they would be taken over.
        """
        if (real := self._real) is None:
            return
        batch = IncomingBatch.of(real.hash_key, incoming, 0, self.deadline_rules)
        known = real.read(lambda tx: _known(tx, batch, unfinished), by_key=True)
        self.database.write(lambda tx: _note(tx, batch, known))

    def predict_guards(self, import_id: str) -> list[Finding]:
        """Return what the guards would say of an import beside what the real ledger knows, and let it pass them."""
        return predict(self.database, import_id, self._real, self.now())

    def count_targets(self) -> int:
        """Return how many targets the changes are about."""
        query = select(func.count()).select_from(targets)
        return self.database.read(lambda tx: tx.execute(query).scalar_one())


@dataclass(frozen=True, slots=True)
class _Known:
    """What the real ledger knows about a batch: changes by their target's key, registers, and aliases of targets."""

    changes: Sequence[tuple[bytes, Row]]
    registers: Sequence[Row]
    aliases: Sequence[Row]


def _known(tx: Connection, batch: IncomingBatch, unfinished: str | None) -> _Known:
    aliases = aliases_of(tx, batch.targets)
    batch.lookup_targets(tx)
    target_of = batch.target_of | dict(batch.target_of_aliases)
    batch.lookup_existing(tx)  # by which some changes get a key of their own
    target_of |= batch.target_of
    unseen = {unfinished, *tx.execute(select(imports.c.id).where(*KEEPS_BACK)).scalars()}
    key_of = {number: key for key, number in batch.numbers.items()}
    found = bulk(tx).select_changes(_FACTS, target_of.items())
    seen = [(key_of[target_of[row[1]]], row) for row in found if row[2] not in unseen and row[3] not in ASIDE]
    return _Known(seen, bulk(tx).select_by_key(_REGISTERS, list(batch.targets)), aliases)


def _note(tx: Connection, batch: IncomingBatch, known: _Known) -> None:
    bulk(tx).insert(targets, _TARGET_COLUMNS, list(batch.targets.values()), NEW)
    batch.lookup_targets(tx)
    aliases = [(one, batch.numbers[key]) for key, one in known.aliases]
    bulk(tx).insert(target_aliases, ("target_key", "target_id"), aliases, NEW)
    rows = [
        _known_row(number, key, batch.numbers[target], *facts) for target, (number, key, _, _, *facts) in known.changes
    ]
    bulk(tx).insert(changes, _KNOWN_COLUMNS, rows, NEW)
    bulk(tx).insert(slots, _SLOT_COLUMNS, [(batch.numbers[key], *register) for key, *register in known.registers], NEW)


def _careless(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")  # no one misses a dry run that was cut short


def _follow(tx: Connection, real: Database) -> None:
    last = real.read(lambda other: other.execute(select(func.max(changes.c.id))).scalar())
    tx.execute(update(info).where(info.c.name == HASH_KEY).values(value=real.hash_key.hex()))
    bulk(tx).insert(changes, _KNOWN_COLUMNS, [_known_row((last or 0) + _FAR_AHEAD, b"", 0)], NEW)


def _known_row(  # noqa: PLR0913, PLR0917 - one for each column
    number: int,
    key: bytes,
    target: int,
    slot: str = "",
    action: str = "",
    value: str = "",
    since: int = 0,
    details: str = "{}",
) -> Row:
    """Return a change of which nothing matters but its number, that it is known, and what it says."""
    return number, key, "", target, slot, action, value, since, details, "", 0, "known"
