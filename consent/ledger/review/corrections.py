"""Correcting dead letters: what they should have said is recorded in their place, and holds since their own time.

A correction is an import of its own, with one row. One transaction records it, enqueues it and closes the letter as
superseded by it: a process that is killed leaves the letter as it was, and a form that is sent twice finds it closed.
The newest change of each slot wins as everywhere: what was said after the letter's time is not overruled by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, Select, select, update

from consent.change import Action, ConsentChange, Origin
from consent.imports import ImportSource
from consent.ledger.database import LedgerPart
from consent.ledger.dialects.locks import MergeLock, RecordingLock
from consent.ledger.dialects.statements import NEW, among, bulk
from consent.ledger.intake.accept import count_events, record_and_publish
from consent.ledger.intake.batch import DETAILS, SLOT, TARGET, VALUE, IncomingBatch
from consent.ledger.intake.imports import ReassertTerms, begin_import
from consent.ledger.queries.changes import CORRECTED
from consent.ledger.queue.outcome_log import note_state
from consent.ledger.schema import audit_log, changes, imports, targets
from consent.outcome import State

KIND = "correction"
"""The kind of import that holds a corrected dead letter."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """The letter was closed as superseded by the change of this number, which is in this state.

    It stands in the import, unless the ledger had it already. If it is superseded itself, a newer change was known.
    """

    import_id: str
    change_id: int
    state: State


@dataclass(frozen=True, slots=True)
class NotCorrected:
    """Nothing was done: the reason says why and what to do."""

    reason: str


class Corrections(LedgerPart):
    """Dead letters that are corrected."""

    def correct(
        self, letter_id: int, corrected: Sequence[ConsentChange], *, columns: Sequence[str], who: str, why: str
    ) -> Corrected | NotCorrected | None:
        """Record what a dead letter should have said, and close it; None if there is no such letter.

        The changes keep the letter's action, connection and time, whatever they say. `columns` are named in the audit
        log, never what stands in them. Raises LedgerUnavailable.
        """
        now, secret = self.core.now(), self.database.hash_key

        def work(tx: Connection) -> Corrected | NotCorrected | None:
            lock = RecordingLock.acquire(tx)
            query = _letter_of(letter_id)
            if (letter := tx.execute(query).first()) is None:
                return None
            meant = [_of(letter, one) for one in corrected]
            batch = IncomingBatch.of(secret, meant, now, self.core.deadline_rules)
            batch.lookup_existing(tx)
            whose = select(targets.c.id).where(targets.c.id.in_({letter.target_id, *batch.numbers.values()}))
            MergeLock.of_targets(tx, whose, reassigns=True)  # no replay is under way
            letter = tx.execute(query.with_for_update(of=changes)).one()
            if letter.state != State.DEAD.value or letter.discarded_at is not None:
                return NotCorrected(_closed(letter))
            if any(_is_the_same(letter, batch, row) for row in batch.rows):
                return NotCorrected("that is what it says already: replay it instead")
            import_id = begin_import(tx, _source(letter), now)
            terms = ReassertTerms(self.core.reassert)
            taken, new = record_and_publish(lock, import_id, batch, Origin(letter.origin), now=now, reassert=terms)
            count_events(tx, import_id, len(batch.rows), new + len(taken), 0)
            ended = update(imports).where(imports.c.id == import_id)
            tx.execute(ended.values(state="released", read_at=now, released_at=now))
            made = _successor(tx, letter, batch)
            closed = {"state": State.SUPERSEDED.value, "superseded_by": made.id}
            tx.execute(update(changes).where(changes.c.id == letter_id).values(**closed))
            note_state(tx, State.SUPERSEDED, [letter_id], now)
            what = f"{CORRECTED}{', '.join(columns)}"
            names = ("at", "who", "what", "why", "change_id", "import_id")
            bulk(tx).insert(audit_log, names, [(now, who, what, why, letter_id, import_id)], NEW)
            return Corrected(import_id, made.id, State(made.state))

        return self.database.write(work)


def _letter_of(number: int) -> Select[Any]:
    facts = (*changes.c, targets.c.connection, imports.c.name.label("import_name"))
    query = select(*facts).join(targets, targets.c.id == changes.c.target_id)
    return query.join(imports, imports.c.id == changes.c.import_id).where(changes.c.id == number)


def _closed(letter: Row[Any]) -> str:
    if letter.discarded_at is not None:
        return "it was discarded"
    if letter.superseded_by is not None:
        return f"it is closed already, superseded by change {letter.superseded_by}"
    return f"it is no dead letter any more: it is {letter.state}"


def _source(letter: Row[Any]) -> ImportSource:
    return ImportSource(KIND, f"correction of {letter.import_name}", f"{KIND} of {letter.id}", 0, None)


def _of(letter: Row[Any], change: ConsentChange) -> ConsentChange:
    """Return a corrected change with what only the person who said it could alter."""
    return replace(
        change,
        connection=letter.connection,
        action=Action(letter.action),
        effective_at=letter.effective_at,
        own_time=bool(letter.own_time),
        line=letter.line,
        change_id=None,
    )


def _is_the_same(letter: Row[Any], batch: IncomingBatch, row: Sequence[Any]) -> bool:
    same = (batch.numbers.get(row[TARGET]), row[SLOT], row[VALUE], row[DETAILS])
    return same == (letter.target_id, letter.slot, letter.value, letter.details)


def _successor(tx: Connection, letter: Row[Any], batch: IncomingBatch) -> Row[int, str]:
    """Return the change that takes the letter's place: the one about its slot if there is one, else the first."""
    numbers = [number for (number,) in bulk(tx).select_changes("changes.id", batch.target_of.items())]
    query = select(changes.c.id, changes.c.state).where(among(changes.c.id, numbers))
    in_its_slot = (changes.c.slot == letter.slot).desc()
    return tx.execute(query.order_by(in_its_slot, changes.c.id).limit(1)).one()
