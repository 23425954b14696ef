"""Undoing an import: compensating changes, one microsecond after the mistaken ones, which bring back what was before.

So they beat the mistake and lose to everything that was said later, in whatever order anything arrives. They are an
import of their own, recorded like a file that must be read whole: nothing of it counts until its last change has been
recorded. Then it happens, whatever is killed, and undoing again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import groupby
from operator import attrgetter
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select, update

from consent.change import Action, Origin, from_micros
from consent.deadlines.rules import DeadlineRules
from consent.identifiers.masking import masked
from consent.imports import ImportSource
from consent.ledger.database import Database, LedgerPart
from consent.ledger.dialects.locks import RecordingLock
from consent.ledger.dialects.statements import among, insert_new
from consent.ledger.intake.imports import Imports
from consent.ledger.intake.publish import Publisher
from consent.ledger.keys import KEY_BYTES
from consent.ledger.merge_sql import own_slot, rank
from consent.ledger.review.effects import UNDO
from consent.ledger.review.guard_checks import note_decision
from consent.ledger.review.holds import Decision
from consent.ledger.schema import changes, imports, slots, targets
from consent.outcome import State

KIND = UNDO
AFTER = 1
"""Microseconds from a mistaken change to the one that undoes it."""

CHUNK = 5_000
_LISTED = 100
_IN, _OUT = Action.OPTIN.value, Action.OPTOUT.value
_COLUMNS = (
    *("dedupe_key", "line", "target_id", "slot", "action", "value", "effective_at", "details", "own_time"),
    *("due_at", "rule", "recorded_at", "import_id", "origin", "state"),
)


@dataclass(slots=True)
class UndoPlan:
    """What undoing an import does, slot by slot, and what it cannot do.

    `undone` slots get back what they held before. Of the others `same` held that before, `overtaken` have a newer
    change, `opted_out` were opted out by the import and would be opted in again, and `no_value` have no earlier value
    to go back to. `listed` are the first of the last two, without names.
    """

    undone: int = 0
    same: int = 0
    overtaken: int = 0
    opted_out: int = 0
    no_value: int = 0
    listed: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as the keys of a JSON object."""
        names = ("undone", "same", "overtaken", "opted_out", "no_value")
        return {name: getattr(self, name) for name in names} | {"cannot_undo": self.listed}


@dataclass(frozen=True, slots=True)
class Undone:
    """The import was undone by another one; `undo_id` is None if there is nothing to undo, or nothing any more."""

    undo_id: str | None
    plan: UndoPlan


@dataclass(frozen=True, slots=True)
class NotUndone:
    """Nothing was done: the reason says why and what to do."""

    reason: str


class Undoing(LedgerPart):
    """Imports that are undone."""

    def plan_undo(self, import_id: str, *, opt_in_again: bool = False) -> UndoPlan:
        """Return what undoing an import would do now, and do nothing."""
        plan = UndoPlan()
        for _ in _compensations(self.database, import_id, plan, opt_in_again=opt_in_again):
            pass
        return plan

    def undo(self, import_id: str, decision: Decision, *, opt_in_again: bool = False) -> Undone | NotUndone | None:
        """Undo an import, which must have been published; None if there is no such import.

        With `opt_in_again` people that it opted out are opted in again.
        """
        database, now = self.database, self.core.now()
        publish = Publisher(self.core).publish
        row = database.read(lambda tx: tx.execute(select(imports).where(imports.c.id == import_id)).first())
        if row is None:
            return None
        if (reason := _refusal(row)) is not None:
            return NotUndone(reason)
        for begun in _unpublished(database, import_id):
            publish(begun)  # what a process did that was killed then
        plan = self.plan_undo(import_id, opt_in_again=opt_in_again)
        if decision.expect not in (None, plan.undone):
            return NotUndone(f"nothing was done: it would undo {plan.undone:,} slots now, and not what --expect says")
        if not plan.undone:
            if row.undone_at is None:  # else other imports that are undone would go back to what this one says
                database.write(lambda tx: _note_undone(tx, row, decision, now))
            return Undone(None, plan)
        plan = UndoPlan()
        source = ImportSource(
            KIND, f"undo of {row.name}", f"{KIND} {import_id} {_number(database, import_id)}", 0, None
        )
        undo_id = Imports(self.core).open_import(source).import_id
        for rows in _compensations(database, import_id, plan, opt_in_again=opt_in_again):
            made = [_with_deadline(row, self.core.deadline_rules, now) for row in rows]
            database.write(lambda tx, rows=made: _record(tx, undo_id, rows, now))  # type: ignore[misc]
        database.write(lambda tx: _finish(tx, row, undo_id, decision, now))
        publish(undo_id)
        return Undone(undo_id, plan)


def _refusal(row: Row[Any]) -> str | None:
    if row.kind == KIND:
        return "it is itself what undid another import: import the changes again instead"
    if row.state == "held":
        return "it is held, and nothing of it has been delivered: withdraw it instead"
    if row.state == "withdrawn" or (row.state == "reading" and row.kind == "csv"):
        return "nothing of it has been delivered, so there is nothing to undo"
    if row.state in {"read", "merged"}:
        return "it is being published at this moment: undo it again when that is done"
    return None


def _number(database: Database, import_id: str) -> int:
    """Return the number of this undoing: what more is undone later, such as opt-outs, is another import."""
    done = select(func.count()).select_from(imports).where(_undoes(import_id), imports.c.state != "reading")
    return database.read(lambda tx: tx.execute(done).scalar_one())


def _unpublished(database: Database, import_id: str) -> Sequence[str]:
    left = select(imports.c.id).where(_undoes(import_id), imports.c.state.in_(("read", "merged")))
    return database.read(lambda tx: tx.execute(left).scalars().all())


def _undoes(import_id: str) -> ColumnElement[bool]:
    return imports.c.fingerprint.startswith(f"{KIND} {import_id} ", autoescape=True)


def _compensations(
    database: Database, import_id: str, plan: UndoPlan, *, opt_in_again: bool
) -> Iterator[list[tuple[str, tuple[Any, ...]]]]:
    """Give the changes that undo an import, a chunk at a time, each beside its connection.

    What becomes of each slot is counted into the plan.
    """
    last = 0
    seen: set[int] = set()
    while rows := database.read(lambda tx, last=last: _mistakes(tx, import_id, last)):  # type: ignore[misc]
        last = rows[-1].mine
        standing = [row for row in rows if _stands(row, seen)]
        plan.overtaken += len(rows) - len(standing)
        before = database.read(lambda tx, some=standing: _before(tx, import_id, some))  # type: ignore[misc]
        found = [_compensation(row, before.get(row.id), plan, opt_in_again=opt_in_again) for row in standing]
        whose = {row.target_id: row.connection for row in standing}
        yield [(whose[one[_TARGET]], one) for one in found if one is not None]


def _mistakes(tx: Connection, import_id: str, after: int) -> list[Row[Any]]:
    """Return the newest change of each slot that the next of an import's merged changes are about; `mine` is theirs."""
    newest = changes.alias("newest")
    facts = (*newest.c, changes.c.id.label("mine"), slots.c.newest_at, targets.c.address, targets.c.connection)
    query = select(*facts, imports.c.undone_at).join_from(changes, slots, own_slot(changes))
    query = query.join(newest, newest.c.id == slots.c.newest_id).join(imports, imports.c.id == newest.c.import_id)
    query = query.join(targets, targets.c.id == changes.c.target_id)
    mine = (changes.c.import_id == import_id, changes.c.id > after)
    merged = changes.c.state.not_in((State.HELD.value, State.WITHDRAWN.value))
    return list(tx.execute(query.where(*mine, merged).order_by(changes.c.id).limit(CHUNK)))


def _stands(row: Row[Any], seen: set[int]) -> bool:
    """Whether a slot's newest change is a mistake: one of this import, or the opt-in of another one that was undone.

    The other one said the same as this import, and went back to that when it was undone. `seen` are such ones.
    """
    if row.newest_at != row.effective_at or row.id == row.mine:
        return bool(row.newest_at == row.effective_at)
    found = row.id not in seen and _was_undone(row)
    seen.add(row.id)
    return found


def _was_undone(row: Row[Any]) -> bool:
    """Whether a change is an opt-in of an import that was undone since; its opt-outs may have been left to stand."""
    return row.action == _IN and row.undone_at is not None and row.recorded_at <= row.undone_at


def _before(tx: Connection, import_id: str, rows: list[Row[Any]]) -> dict[int, Row[Any]]:
    """Return the change that each slot held before, by the mistaken one's number.

    Changes that were undone, those that undid them, and opt-ins of imports that were undone are looked past.
    """
    other = changes.alias("other")
    newest_first = [part.desc() for part in rank(other.c.effective_at, other.c.action, other.c.id)]
    same = and_(other.c.target_id == changes.c.target_id, other.c.slot == changes.c.slot, other.c.id != changes.c.id)
    counts = and_(
        other.c.state.not_in((State.HELD.value, State.WITHDRAWN.value)),
        or_(
            other.c.state != State.PENDING.value,  # of an import that is being published, in part for the second time
            imports.c.state.in_(("merged", "released")),
            imports.c.stream == 1,
        ),
    )
    names = ("import_id", "dedupe_key", "action", "value", "details", "recorded_at")
    facts = (changes.c.id.label("mistake"), *(other.c[name] for name in names), imports.c.kind, imports.c.undone_at)
    query = select(*facts).join(other, same).join(imports, imports.c.id == other.c.import_id)
    some = query.where(among(tx, changes.c.id, [row.id for row in rows]), counts).order_by(changes.c.id, *newest_first)
    found: dict[int, Row[Any]] = {}
    for number, told in groupby(tx.execute(some), key=attrgetter("mistake")):
        all_told = list(told)
        undoing = {one.dedupe_key for one in all_told if one.kind == KIND}
        plain = (one for one in all_told if one.kind != KIND and one.import_id != import_id and not _was_undone(one))
        before = next((one for one in plain if _key_of_undoing(one.dedupe_key) not in undoing), None)
        if before is not None:
            found[number] = before
    return found


def _key_of_undoing(key: bytes) -> bytes:
    return blake2b(key + b" undone", digest_size=KEY_BYTES).digest()


def _compensation(
    row: Row[Any], before: Row[Any] | None, plan: UndoPlan, *, opt_in_again: bool
) -> tuple[Any, ...] | None:
    """Return the change that undoes a mistaken one (to be completed by `_record`), or count why there is none."""
    if before is None and row.value:
        plan.no_value += 1
        _list(plan, row, "has no earlier value to go back to")
        return None
    wanted = (_OUT, "", row.details) if before is None else (before.action, before.value, before.details)
    if wanted[:2] == (row.action, row.value) and (before is not None or row.action == _IN):
        plan.same += 1
        return None
    if row.action == _OUT and (before is None or not (opt_in_again and wanted[0] == _IN)):
        plan.opted_out += 1
        _list(plan, row, "was opted out" if before is None else "was opted out, and was in before: --opt-in-again")
        return None
    plan.undone += 1
    action, value, details = wanted
    key = _key_of_undoing(row.dedupe_key)
    return key, row.line, row.target_id, row.slot, action, value, row.effective_at + AFTER, details, 1


_TARGET, _SLOT, _ACTION, _SINCE = 2, 3, 4, 6
"""Where a compensating change holds what."""


def _with_deadline(row: tuple[str, tuple[Any, ...]], rules: DeadlineRules, now: int) -> tuple[Any, ...]:
    """Return a compensating change with the deadline that it has as an opt-out."""
    connection, change = row
    if change[_ACTION] != _OUT:
        return (*change, None, None)
    return (*change, *rules.of(connection, change[_SLOT], change[_SINCE], now))


def _list(plan: UndoPlan, row: Row[Any], words: str) -> None:
    if len(plan.listed) < _LISTED:
        who = f"line {row.line}: {masked(orjson.loads(row.address))} {row.slot}"
        plan.listed.append(f"{who} {words} ({from_micros(row.effective_at):%Y-%m-%d})")


def _record(tx: Connection, undo_id: str, rows: list[tuple[Any, ...]], now: int) -> None:
    """Record compensating changes, which nothing delivers yet; those that are recorded already stay as they are."""
    RecordingLock.acquire(tx)
    constant = (now, undo_id, Origin.BULK.value, State.PENDING.value)
    made = insert_new(tx, changes, _COLUMNS, [(*row, *constant) for row in rows])
    more = {name: imports.c[name] + made for name in ("records", "changes", "recorded")}
    tx.execute(update(imports).where(imports.c.id == undo_id, imports.c.state == "reading").values(**more))


def _finish(tx: Connection, row: Row[Any], undo_id: str, decision: Decision, now: int) -> None:
    """Let the compensating changes count from now on, and note who undid the import."""
    mine = update(imports).where(imports.c.id == undo_id, imports.c.state == "reading")
    if tx.execute(mine.values(state="read", read_at=now, checked_at=now)).rowcount:
        _note_undone(tx, row, decision, now)


def _note_undone(tx: Connection, row: Row[Any], decision: Decision, now: int) -> None:
    tx.execute(update(imports).where(imports.c.id == row.id).values(undone_at=now))
    note_decision(tx, row.id, decision.who, "undone", decision.why, now)
