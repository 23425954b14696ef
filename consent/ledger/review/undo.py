"""Undoing an import: compensating changes, one microsecond after the mistaken ones, which bring back what was before.

So they beat the mistake and lose to everything that was said later, in whatever order anything arrives. They are an
import of their own, recorded like a file that must be read whole: nothing of it counts until its last change has been
recorded. Then it happens, whatever is killed, and undoing again changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, select, update

from consent.change import Action, Origin
from consent.deadlines.rules import DeadlineRules
from consent.imports import FILE, ImportSource
from consent.ledger.database import Database, LedgerPart
from consent.ledger.dialects.locks import MergeLock, RecordingLock
from consent.ledger.dialects.statements import NEW, bulk
from consent.ledger.intake.imports import begin_import
from consent.ledger.intake.publish import Publisher
from consent.ledger.review import effects
from consent.ledger.review.compensations import COLUMNS, Compensation, compensations
from consent.ledger.review.effects import UNDO
from consent.ledger.review.guard_checks import note_decision
from consent.ledger.review.holds import Decision
from consent.ledger.review.undo_plan import UndoPlan
from consent.ledger.schema import changes, imports
from consent.outcome import State

KIND = UNDO
CHUNK = 20_000
_COLUMNS = (*COLUMNS, "due_at", "rule", "recorded_at", "import_id", "origin", "state")
_SLOT, _ACTION, _SINCE = (COLUMNS.index(name) for name in ("slot", "action", "effective_at"))


@dataclass(frozen=True, slots=True)
class Undone:
    """The import was undone by another one; `undo_id` is None if there is nothing to undo, or nothing any more."""

    undo_id: str | None
    plan: UndoPlan


@dataclass(frozen=True, slots=True)
class NotUndone:
    """Nothing was done: the reason says why and what to do. `slots` is what it would undo, if that is the reason."""

    reason: str
    slots: int | None = None


class Undoing(LedgerPart):
    """Imports that are undone."""

    def plan_undo(self, import_id: str, *, opt_in_again: bool = False) -> UndoPlan:
        """Return what undoing an import would do now, and do nothing."""
        plan = UndoPlan()
        for _ in compensations(self.database, import_id, plan, CHUNK, opt_in_again=opt_in_again):
            pass
        return plan

    def refuses_undo(self, import_id: str) -> NotUndone | None:
        """Return why an import cannot be undone at this moment, None if it can or there is no such import."""
        row = self._import(import_id)
        reason = None if row is None else _refusal(row)
        return None if reason is None else NotUndone(reason)

    def undo(self, import_id: str, decision: Decision, *, opt_in_again: bool = False) -> Undone | NotUndone | None:
        """Undo an import, which must have been published; None if there is no such import.

        With `opt_in_again` people that it opted out are opted in again.
        """
        row = self._import(import_id)
        if row is None:
            return None
        if (reason := _refusal(row)) is not None:
            return NotUndone(reason)
        if opt_in_again and (name := decision.is_by(row.importers)) is not None:
            return NotUndone(f"it opts people in, {name} has imported it, and two people have to agree")
        publish = Publisher(self.core).publish
        for begun in _unpublished(self.database, import_id):
            publish(begun)  # what a process did that was killed then
        plan = self.plan_undo(import_id, opt_in_again=opt_in_again)
        if decision.expect not in (None, plan.undone):
            return _unexpected(plan)
        if not plan.undone:
            now = self.core.now()
            # Else other imports that are undone would go back to what this one says.
            self.database.write(lambda tx: _note_undone(tx, import_id, decision, now, opt_in_again=opt_in_again))
            return Undone(None, plan)
        done = self._compensate(row, decision, opt_in_again=opt_in_again)
        if isinstance(done, Undone) and done.undo_id is not None:
            publish(done.undo_id)
        return done

    def _import(self, import_id: str) -> Row[Any] | None:
        return self.database.read(lambda tx: tx.execute(select(imports).where(imports.c.id == import_id)).first())

    def _compensate(self, row: Row[Any], decision: Decision, *, opt_in_again: bool) -> Undone | NotUndone:
        """Record the compensating changes, and let them count in one transaction with the note of it."""
        database, now, plan = self.database, self.core.now(), UndoPlan()
        begun = database.write(lambda tx: _begin(tx, row, now))
        try:
            for some in compensations(database, row.id, plan, CHUNK, opt_in_again=opt_in_again):
                made = [_with_deadline(one, self.core.deadline_rules, now) for one in some]
                database.write(lambda tx, rows=made: _record(tx, begun.undo_id, rows, now))  # type: ignore[misc]
            if decision.expect is None or decision.expect == plan.undone:
                database.write(lambda tx: _finish(tx, row.id, begun, decision, opt_in_again=opt_in_again))
                return Undone(begun.undo_id, plan)
        except _MovedError:
            plan = self.plan_undo(row.id, opt_in_again=opt_in_again)
        except _OvertakenError:
            return NotUndone("another process is undoing it at this moment: undo it again when that is done")
        database.write(lambda tx: _drop_unfinished(tx, row.id))
        return _unexpected(plan)


class _MovedError(Exception):
    """Since the compensating changes were made, others have said something about these slots."""


class _OvertakenError(Exception):
    """Another process has begun to undo the same import, and dropped what this one had recorded."""


def _unexpected(plan: UndoPlan) -> NotUndone:
    reason = f"nothing was done: it would undo {plan.undone:,} slots now, and not what --expect says"
    return NotUndone(reason, plan.undone)


def _refusal(row: Row[Any]) -> str | None:
    """Return why an import cannot be undone as it is, and what to do; None if it can."""
    is_file = row.kind == FILE
    if row.kind == KIND:
        return "it is itself what undid another import: import the changes again instead"
    if is_file and row.stream and row.state == "held":
        return "its opt-ins are held, and its opt-outs have been delivered: withdraw it first, and undo it then"
    if is_file and row.stream and row.state == "reading":
        return "it has not been read to its end: import the file again first"
    if row.state == "reading" and not is_file:
        return None
    return _UNDELIVERED.get(row.state)


_NOTHING = "nothing of it has been delivered, so there is nothing to undo"
_BUSY = "it is being published at this moment: undo it again when that is done"
_UNDELIVERED = {
    "held": "it is held, and nothing of it has been delivered: withdraw it instead",
    "withdrawn": _NOTHING,
    "reading": _NOTHING,
    "read": _BUSY,
    "merged": _BUSY,
}


def _unpublished(database: Database, import_id: str) -> Sequence[str]:
    left = select(imports.c.id).where(_undoes(import_id), imports.c.state.in_(("read", "merged")))
    return database.read(lambda tx: tx.execute(left).scalars().all())


def _undoes(import_id: str) -> ColumnElement[bool]:
    return imports.c.fingerprint.startswith(f"{KIND} {import_id} ", autoescape=True)


def _begin(tx: Connection, row: Row[Any], now: int) -> _Begun:
    """Begin the import that undoes another one.

    What an earlier attempt has left is dropped: it was found when other things were so, or for other people. If that
    attempt goes on, its next transaction fails.
    """
    RecordingLock.acquire(tx)
    tx.execute(select(imports.c.id).where(imports.c.id == row.id).with_for_update())
    _drop_unfinished(tx, row.id)
    done = tx.execute(select(func.count()).select_from(imports).where(_undoes(row.id))).scalar_one()
    # What more is undone later, such as opt-outs, is another import: so each has a number.
    source = ImportSource(KIND, f"undo of {row.name}", f"{KIND} {row.id} {done}", 0, None)
    return _Begun(begin_import(tx, source, now), now, _facts(tx, row.id))


@dataclass(frozen=True, slots=True)
class _Begun:
    """An import that undoes another one, and the facts that its changes are made of."""

    undo_id: str
    now: int
    facts: tuple[Any, ...]


def _facts(tx: Connection, import_id: str) -> tuple[Any, ...]:
    """Return what an import has recorded and merged, and which imports are undone: with another one, more may be."""
    own = select(imports.c.recorded, imports.c.noops_merged_to).where(imports.c.id == import_id)
    undone = select(func.count(), func.sum(imports.c.undone_at), func.sum(imports.c.optouts_undone_at))
    counted = tx.execute(undone.where(imports.c.undone_at.is_not(None))).one()
    return (*tx.execute(own).one(), *counted)


def _drop_unfinished(tx: Connection, import_id: str) -> None:
    """Drop compensating changes that nothing has merged or delivered, with their import."""
    RecordingLock.acquire(tx)
    left = select(imports.c.id).where(_undoes(import_id), imports.c.state == "reading")
    for undo_id in tx.execute(left.with_for_update()).scalars().all():
        tx.execute(delete(changes).where(changes.c.import_id == undo_id))
        tx.execute(delete(imports).where(imports.c.id == undo_id))


def _with_deadline(compensation: Compensation, rules: DeadlineRules, now: int) -> tuple[Any, ...]:
    """Return a compensating change with the deadline that it has as an opt-out."""
    connection, change = compensation
    if change[_ACTION] != Action.OPTOUT.value:
        return (*change, None, None)
    return (*change, *rules.of(connection, change[_SLOT], change[_SINCE], now))


def _record(tx: Connection, undo_id: str, rows: list[tuple[Any, ...]], now: int) -> None:
    """Record compensating changes, which nothing delivers yet; raise _OvertakenError."""
    RecordingLock.acquire(tx)
    mine = (imports.c.id == undo_id, imports.c.state == "reading")
    if tx.execute(select(imports.c.id).where(*mine).with_for_update()).first() is None:
        raise _OvertakenError
    constant = (now, undo_id, Origin.BULK.value, State.PENDING.value)
    made = bulk(tx).insert(changes, _COLUMNS, [(*row, *constant) for row in rows], NEW)
    more = {name: imports.c[name] + made for name in ("records", "changes", "recorded")}
    tx.execute(update(imports).where(*mine).values(**more))


def _finish(tx: Connection, import_id: str, begun: _Begun, decision: Decision, *, opt_in_again: bool) -> None:
    """Let the compensating changes count from now on, and note who undid the import; raise _OvertakenError.

    If so many are expected, each must still be newer than what its slot holds, and nothing more be to undo; else raise
    _MovedError.
    """
    RecordingLock.acquire(tx)
    mine = (imports.c.id == begun.undo_id, imports.c.state == "reading")
    if tx.execute(select(imports.c.id).where(*mine).with_for_update()).first() is None:
        raise _OvertakenError
    if decision.expect is not None:
        MergeLock.acquire(tx)
        if (effects.standing(tx, begun.undo_id), _facts(tx, import_id)) != (decision.expect, begun.facts):
            raise _MovedError
    tx.execute(update(imports).where(*mine).values(state="read", read_at=begun.now, checked_at=begun.now))
    _note(tx, import_id, decision, begun.now, opt_in_again=opt_in_again)


def _note_undone(tx: Connection, import_id: str, decision: Decision, now: int, *, opt_in_again: bool) -> None:
    """Note that an import was undone, unless that is known."""
    row = tx.execute(select(imports).where(imports.c.id == import_id).with_for_update()).one()
    if row.undone_at is None or (opt_in_again and row.optouts_undone_at is None):
        _note(tx, import_id, decision, now, opt_in_again=opt_in_again)


def _note(tx: Connection, import_id: str, decision: Decision, now: int, *, opt_in_again: bool) -> None:
    also = {"optouts_undone_at": now} if opt_in_again else {}
    tx.execute(update(imports).where(imports.c.id == import_id).values(undone_at=now, **also))
    note_decision(tx, import_id, decision.who, "undone", decision.why, now)
