"""Publishing an import once its file has been read whole: its changes become due, and each customer costs one call.

First every change is merged into its slot's register, chunk by chunk; only then are customer tasks made, so that no
customer becomes due before the last of his rows has been merged. Both passes go through the changes in blocks, whose
order is that of their targets: what lies together in the ledger is written together, in whatever order the file tells
it. They keep their place in `merged_to`, which moves with each block, and may be interrupted anywhere: a block that was
begun is gone through again, and what was done already stays as it is.

Before all that its guards check it: it goes on, or it is held. Then all of its changes are (of a stream, its opt-ins).
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, bindparam, literal, select, update

from consent.errors import LedgerRefused
from consent.guards.findings import Finding
from consent.imports import REFUSED, PublishProgress
from consent.ledger.database import Database, LedgerPart
from consent.ledger.dialects.locks import MergeLock, RecordingLock
from consent.ledger.dialects.statements import BEHIND, NEW, among, bulk, first_change, plain_numbers, portions
from consent.ledger.intake.imports import IMPORT, IMPORT_LOCKED, UPDATE_IMPORT, reassert_terms
from consent.ledger.intake.noops import merge_noops
from consent.ledger.intake.reassign import reassign_noted
from consent.ledger.merge_sql import merge_pending
from consent.ledger.queue.enqueue import enqueue
from consent.ledger.queue.outcome_log import note_dead
from consent.ledger.review import guard_checks
from consent.ledger.review.guard_checks import FROM_START, HOLDING, MOVING, PASSING, Moved
from consent.ledger.schema import changes, dead_letters, imports, pending_duplicates
from consent.outcome import State
from consent.reassert import ReassertRules

BLOCK = 200_000
CHUNK = 10_000
FIRST_DUE = 2_000
"""Changes in the first chunk that becomes due: enough work for all workers, who need not wait for more."""

_NEXT = {"read": "merged", "merged": "released"}


class Publisher(LedgerPart):
    """Lets the changes of files become due."""

    def publish(self, import_id: str, on_progress: Callable[[int], None] | None = None) -> None:
        """Make the changes of an import that was read whole due, unless guards hold it; resumable, harmless twice."""
        now, rules = self.core.now, self.core.reassert
        note = on_progress or (lambda _: None)
        row = self.database.read(lambda tx: tx.execute(_FOUND, {"its": import_id}).one())
        self._check(row)
        moved = FROM_START if row.merged_to == MOVING else None
        while moved is not None:
            moved = self.database.write(partial(_move, import_id=import_id, done=moved, now=now()))
            note(guard_checks.MOVED_AT_ONCE if moved else 0)
        block = self._next_block(import_id) if self._merge_aside(row, note) else None
        while block is not None:
            for chunk in block.chunks:
                step = partial(_step, block=block, now=now(), rules=rules)
                try:
                    done = self.database.write_or_name(chunk, partial(step, chunk=chunk), _attempt(step))
                except LedgerRefused as error:
                    if not error.members:
                        raise
                    _make_dead(self.database, [chunk[place] for place in error.members], REFUSED, now())
                    done = self.database.write(partial(step, chunk=chunk))
                if not done:
                    break
                note(len(chunk))
            block = None if done and block.is_last else self._next_block(import_id)

    def _next_block(self, import_id: str) -> _Block | None:
        return self.database.read(lambda tx: _next_block(tx, import_id))

    def _check(self, row: Row[Any]) -> None:
        """Let the guards check an import that has been read whole and was not checked yet: it goes on, or is held.

        What they find is kept first. Then its changes are held, or the opt-ins of a stream let go, in steps of a
        transaction each, so that no other writer waits; after the last one it counts as checked. A process that finds
        it in between goes on with that.
        """
        if row.state != "read" or row.checked_at is not None:
            return
        import_id, now = row.id, self.core.now()
        after: int | None = 0
        if row.merged_to not in (HOLDING, PASSING):
            found, optouts = ([], 0) if row.guards is None else guard_checks.checked(self.database, row)
            after = self.database.write(lambda tx: _note_findings(tx, import_id, found, optouts, now))
        while after is not None:
            after = self.database.write(partial(_carry_out, import_id=import_id, after=after, now=now))

    def _merge_aside(self, row: Row[Any], note: Callable[[int], None]) -> bool:
        """Merge what was set aside; return whether the import can be gone on with."""
        if not (row.noops or row.has_duplicates):
            return True
        now, rules = self.core.now(), self.core.reassert
        step = partial(_merge_aside, import_id=row.id, now=now, rules=rules)
        while merged := self.database.write(step):
            note(merged)
        return merged is not None

    def is_merging(self) -> bool:
        """Whether an import that was read whole has yet to be merged: it may supersede what is due."""
        return self.database.read(lambda tx: tx.execute(_MERGING).first()) is not None

    def unpublished(self) -> dict[str, PublishProgress]:
        """Return the imports that were read whole but whose changes are not all due yet, and how far each has come."""
        query = select(imports.c.id, imports.c.state, imports.c.merged_to, imports.c.noops_merged_to, imports.c.steps)
        left = imports.c.state.in_(_NEXT) | (imports.c.merged_to == MOVING)
        rows = self.database.read(lambda tx: tx.execute(query.where(left)).all())
        return {import_id: tuple(place) for import_id, *place in rows}


_MERGING = select(imports.c.id).where(imports.c.state == "read").limit(1)
_UNCHECKED = (imports.c.id == bindparam("its"), imports.c.state == "read", imports.c.checked_at.is_(None))
_FIND_UNCHECKED = select(imports).where(*_UNCHECKED).with_for_update()
_NOTE_FINDINGS = update(imports).where(*_UNCHECKED, imports.c.merged_to.not_in((HOLDING, PASSING)))
_NOTE_STEP = UPDATE_IMPORT.values(steps=imports.c.steps + 1)


def _note_findings(tx: Connection, import_id: str, found: list[Finding], optouts: int, now: int) -> int | None:
    """Keep what the guards have found, unless another process has done it, and begin to carry it out."""
    RecordingLock.acquire(tx)
    values = {
        "optouts": optouts,
        "findings": json.dumps([one.as_json() for one in found]) if found else None,
        "merged_to": HOLDING if any(one.holds for one in found) else PASSING,
    }
    tx.execute(_NOTE_FINDINGS, {"its": import_id, **values})
    return _carry_out(tx, import_id, 0, now)


def _carry_out(tx: Connection, import_id: str, after: int, now: int) -> int | None:
    """Do with the next changes what the guards have found; return how far that is done, None if it is over.

    The opt-outs of a stream are on their way; its opt-ins are held until it has been checked.
    """
    RecordingLock.acquire(tx)
    row = tx.execute(_FIND_UNCHECKED, {"its": import_id}).first()
    if row is None or row.merged_to not in (HOLDING, PASSING):
        return None  # another process has done it
    holds, moved, at_once = row.merged_to == HOLDING, array("q"), guard_checks.MOVED_AT_ONCE
    if holds is not bool(row.stream):
        before, then = (State.PENDING, State.HELD) if holds else (State.HELD, State.PENDING)
        query = select(changes.c.id).where(*BEHIND, changes.c.state == before.value)
        query = query.order_by(changes.c.import_id, changes.c.id).limit(at_once)
        moved = plain_numbers(tx.execute(query, {"its": import_id, "after": after}))
        for some in portions(moved):
            tx.execute(update(changes).where(among(changes.c.id, some)).values(state=then.value))
    values: dict[str, Any] = {}
    if len(moved) < at_once:
        values = {"checked_at": now, "merged_to": 0, "state": "held" if holds else "read"}
        if holds:
            guards = [one["guard"] for one in json.loads(row.findings) if one["holds"]]
            guard_checks.note_decision(tx, import_id, guard_checks.OPTRELAY, "held", ", ".join(guards), now)
    tx.execute(_NOTE_STEP, {"its": import_id, **values})
    return moved[-1] if len(moved) == at_once else None


def _make_dead(database: Database, numbers: Sequence[int], why: tuple[str, str], now: int) -> None:
    """Make dead letters of pending changes that the ledger cannot keep a slot for; `why` is code and reason."""
    code, reason = why
    dead = {"state": State.DEAD.value, "code": code, "reason": reason, "settled_at": now}

    def work(tx: Connection) -> None:
        for some in portions(numbers):
            pending = (among(changes.c.id, some), changes.c.state == State.PENDING.value)
            ids = tx.execute(select(changes.c.id).where(*pending).with_for_update()).scalars().all()
            bulk(tx).insert(dead_letters, ("change_id",), [(number,) for number in ids], NEW)
            tx.execute(update(changes).where(among(changes.c.id, ids)).values(**dead))
            note_dead(tx, ids, now)

    database.write(work)


def _attempt(step: Callable[..., bool]) -> Callable[[Connection, Sequence[int]], bool]:
    return lambda tx, some: step(tx, chunk=some)


@dataclass(frozen=True, slots=True)
class _Block:
    """The pending ones of an import's changes after `merged_to` up to `last` (None: up to the import's last one)."""

    import_id: str
    state: str
    merged_to: int
    last: int | None
    numbers: Sequence[int]

    @property
    def is_last(self) -> bool:
        """Whether all of the import is due once this block is."""
        return self.state == "merged" and self.last is None

    @property
    def chunks(self) -> list[Sequence[int]]:
        first = min(CHUNK, FIRST_DUE) if self.state == "merged" and self.merged_to <= 0 else CHUNK
        return [self.numbers[:first], *portions(self.numbers[first:], CHUNK)]


_PENDING = (
    select(changes.c.id)
    .where(changes.c.import_id == bindparam("its"), changes.c.id.between(bindparam("first"), bindparam("last")))
    .where(changes.c.state == State.PENDING.value)
    .order_by(changes.c.target_id, changes.c.id)
)


def _next_block(tx: Connection, import_id: str) -> _Block | None:
    row = tx.execute(IMPORT, {"its": import_id}).one()
    if row.state not in _NEXT or row.merged_to == MOVING:
        return None
    place = (import_id, row.state, row.merged_to)
    first = first_change(tx, import_id, row.merged_to)
    if first is None:
        return _Block(*place, None, ())
    last = first + BLOCK - 1
    numbers = plain_numbers(tx.execute(_PENDING, {"its": import_id, "first": first, "last": last}))
    return _Block(*place, None if first_change(tx, import_id, last) is None else last, numbers)


def _move(tx: Connection, *, import_id: str, done: Moved, now: int) -> Moved | None:
    RecordingLock.acquire(tx)  # before the import, as in every transaction that records
    return guard_checks.move_decided(tx, import_id, done, now)


_DUPLICATES = select(literal(1)).where(pending_duplicates.c.import_id == imports.c.id).exists()
_FOUND = IMPORT.add_columns(_DUPLICATES.label("has_duplicates"))
"""An import, and whether any of its rows was set aside while it was read, as its no-ops were."""


def _merge_aside(tx: Connection, *, import_id: str, now: int, rules: ReassertRules) -> int | None:
    """Take over the next pending duplicates, or else merge the next no-ops; return how many (0: none was left).

    None if there is nothing to publish: who approves it meanwhile publishes it, from its no-ops on.
    """
    lock = RecordingLock.acquire(tx)  # before the import, as in every transaction that records
    row = tx.execute(IMPORT_LOCKED, {"its": import_id}).one()
    if row.state != "read":
        return 0 if row.state == "merged" else None
    if (noted := reassign_noted(lock, import_id)) or not row.noops:
        return noted
    return merge_noops(lock, row, now=now, reassert=reassert_terms(row, rules))


def _step(tx: Connection, *, block: _Block, chunk: Sequence[int], now: int, rules: ReassertRules) -> bool:
    """Do what is next to a chunk; return False, having done nothing, if another process has gone on with the import."""
    row = tx.execute(IMPORT_LOCKED, {"its": block.import_id}).one()
    if (row.state, row.merged_to) != (block.state, block.merged_to):
        return False
    stamped = 0
    if not chunk:
        pass
    elif row.state == "read":
        stamped = merge_pending(MergeLock.of_changes(tx, chunk), chunk, now=now, reassert=reassert_terms(row, rules))
    else:
        # Else a change could become due, be claimed and sent while a newer one is found to be so already.
        lock = MergeLock.acquire(tx)
        enqueue(lock, chunk, now=now, untried=True)  # what has a code was tried, and waits for its time
    reached: dict[str, Any] = {}
    if not chunk or chunk[-1] == block.numbers[-1]:
        reached["merged_to"] = block.last or 0
        if block.last is None:  # in the same transaction: most files are one small block
            reached["state"] = _NEXT[block.state]
            if block.is_last:
                reached["released_at"] = now
    note = _NOTE_STEP.values(stamped=imports.c.stamped + stamped) if stamped else _NOTE_STEP
    tx.execute(note, {"its": block.import_id, **reached})
    return True
