"""Dead letters: changes that will not be delivered without a person. Finding, replaying and discarding them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, CursorResult, Row, Select, func, select, update

from consent.change import Action
from consent.ledger.database import Database, LedgerPart
from consent.ledger.dialects.locks import MergeLock
from consent.ledger.dialects.statements import NEW, among, bulk, plain_numbers, plain_rows, portions
from consent.ledger.keys import public_id
from consent.ledger.merge_terms import own_slot
from consent.ledger.queue.enqueue import enqueue
from consent.ledger.queue.outcome_log import note_dead, note_state
from consent.ledger.queue.tasks import Attempt
from consent.ledger.schema import attempts, audit_log, changes, dead_letters, imports, slots, targets
from consent.outcome import State


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A change that died: what it wanted, why it cannot be, where it came from. `address` names the person."""

    id: int
    connection: str
    address: Mapping[str, str]
    slot: str
    action: Action
    effective_at: int
    details: Mapping[str, Any]
    code: str
    reason: str
    attempts: int
    import_id: str
    import_name: str
    line: int | None
    died_at: int
    discarded: bool
    public_id: str = ""
    import_kind: str = "csv"


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters are meant: all of these together, of any person where `target_ids` is None; microseconds."""

    ids: tuple[int, ...] = ()
    connection: str | None = None
    code: str | None = None
    import_id: str | None = None
    died_before: int | None = None
    died_after: int | None = None
    discarded: bool = False
    target_ids: tuple[int, ...] | None = None


class ReplayEffect(StrEnum):
    """What replaying a dead letter does."""

    REPLAYED = "replayed"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what to a dead letter, when (microseconds) and why."""

    at: int
    who: str
    what: str
    why: str


class DeadLetters(LedgerPart):
    """Dead letters, and what people do to them."""

    def find(self, which: DeadLetterFilter, limit: int | None = None) -> list[DeadLetter]:
        """Return the dead letters that a filter means, oldest first."""
        rows = self.database.read(lambda tx: _among_letters(tx, _query(which).limit(limit)).all(), by_key=True)
        return [_letter(row) for row in rows]

    def search(self, which: DeadLetterFilter) -> FoundDeadLetters:
        """Return the dead letters that a filter means, however many they are."""
        return FoundDeadLetters(self.database, which)

    def attempts_for(self, letter: DeadLetter) -> list[Attempt]:
        """Return every call that was made about a dead letter, oldest first."""

        def work(tx: Connection) -> list[Attempt]:
            whose = select(changes.c.target_id).where(changes.c.id == letter.id).scalar_subquery()
            facts = ("target_id", "at", "milliseconds", "purpose", "status", "code", "change_ids")
            what = select(*(attempts.c[name] for name in facts))
            rows = tx.execute(what.where(attempts.c.target_id == whose).order_by(attempts.c.at)).mappings()
            made = (Attempt(**{**row, "change_ids": tuple(json.loads(row["change_ids"]))}) for row in rows)
            return [one for one in made if letter.id in one.change_ids]

        return self.database.read(work)

    def audit_log_of(self, change_id: int) -> list[AuditEntry]:
        """Return what people did to a change, oldest first."""
        facts = (audit_log.c[name] for name in ("at", "who", "what", "why"))
        query = select(*facts).where(audit_log.c.change_id == change_id).order_by(audit_log.c.id)
        return [AuditEntry(*row) for row in self.database.read(lambda tx: tx.execute(query).all())]

    def plan_replay(self, letters: SomeDeadLetters) -> dict[int, ReplayEffect]:
        """Return what replaying these letters would do, and do nothing."""
        return self.database.read(lambda tx: _effects_of_replay(tx, _ids(letters)))

    def replay(self, letters: SomeDeadLetters, *, who: str, why: str, whole: bool = False) -> dict[int, ReplayEffect]:
        """Make dead letters due again unless a newer change has overtaken them; note who did it and why.

        Goes through the same lease, pace and newest-wins rule as anything else. A letter that is no longer dead is left
        alone, so doing it twice does nothing more. Many are replayed in several transactions. With `whole` it raises
        LettersGoneError, having done nothing, if one of them has been decided about before the first of these.
        """

        def work(tx: Connection, some: Sequence[int]) -> dict[int, ReplayEffect]:
            lock = MergeLock.of_changes(tx, some)
            _refuse_if_gone(tx, ids if whole and some[0] == ids[0] else ())
            effects = _effects_of_replay(tx, _locked(tx, some))
            query = select(changes, slots.c.newest_id).join(slots, own_slot(changes))
            _revive(lock, tx.execute(query.where(among(changes.c.id, list(effects)))).all(), now)
            _note(tx, effects, who=who, why=why, now=now)
            return effects

        now, ids = self.core.now(), _ids(letters)
        effects: dict[int, ReplayEffect] = {}
        for some in portions(ids):
            effects |= self.database.write(partial(work, some=some))
        return effects

    def discard(self, letters: SomeDeadLetters, *, who: str, why: str, whole: bool = False) -> int:
        """Put dead letters away for good, with who did it and why; return how many. `whole` is as in `replay`."""
        now, meant = self.core.now(), _ids(letters)

        def work(tx: Connection, some: Sequence[int]) -> int:
            _refuse_if_gone(tx, meant if whole and some[0] == meant[0] else ())
            ids = _locked(tx, some, changes.c.discarded_at.is_(None))
            tx.execute(update(changes).where(among(changes.c.id, ids)).values(discarded_at=now))
            _note(tx, dict.fromkeys(ids, "discarded"), who=who, why=why, now=now)
            note_dead(tx, ids, now, discarded=True)
            return len(ids)

        return sum(self.database.write(partial(work, some=some)) for some in portions(meant))


class LettersGoneError(Exception):
    """Nothing was done: others have decided about some of these dead letters meanwhile."""


class FoundDeadLetters:
    """The dead letters that a filter means, oldest first: their numbers, and they themselves a thousand at a time.

    A letter that has been replayed or discarded meanwhile is left out when they are gone through.
    """

    def __init__(self, database: Database, which: DeadLetterFilter) -> None:
        """Find them; raises LedgerUnavailable."""
        self._database, self._which = database, which
        query = _query(which).with_only_columns(changes.c.id)
        self.ids: Sequence[int] = database.read(lambda tx: plain_numbers(_among_letters(tx, query)), by_key=True)

    def __len__(self) -> int:
        """How many were found."""
        return len(self.ids)

    def __iter__(self) -> Iterator[DeadLetter]:
        """Read them; raises LedgerUnavailable."""
        return self.first(len(self))

    def first(self, count: int) -> Iterator[DeadLetter]:
        """Read so many of them."""
        for some in portions(self.ids[:count], _AT_ONCE):
            yield from map(_letter, self._rows(some, _query(self._which)))

    def groups(self) -> Counter[tuple[str, str, str]]:
        """Count them by connection, code and reason."""
        groups: Counter[tuple[str, str, str]] = Counter()
        what = (targets.c.connection, func.coalesce(changes.c.code, ""), func.coalesce(changes.c.reason, ""))
        query = _query(self._which).with_only_columns(*what, func.count()).order_by(None).group_by(*what)
        for some in portions(self.ids):
            for connection, code, reason, count in self._rows(some, query):
                groups[connection, code, reason] += count
        return groups

    def _rows(self, some: Sequence[int], query: Select[Any]) -> list[Any]:
        def work(tx: Connection) -> list[Any]:
            return list(tx.execute(query.where(among(changes.c.id, some))))

        return self._database.read(work, by_key=True)


SomeDeadLetters = FoundDeadLetters | Sequence[DeadLetter]


def _ids(letters: SomeDeadLetters) -> Sequence[int]:
    return letters.ids if isinstance(letters, FoundDeadLetters) else [letter.id for letter in letters]


_AT_ONCE = 1_000  # letters in memory at a time
_DEAD = (changes.c.state == State.DEAD.value,)


def _locked(tx: Connection, ids: Sequence[int], *more: ColumnElement[bool]) -> Sequence[int]:
    """Keep others from deciding about those of these letters that are dead, and return them."""
    dead = select(changes.c.id).where(among(changes.c.id, ids), *_DEAD, *more).order_by(changes.c.id)
    return tx.execute(dead.with_for_update()).scalars().all()


def _refuse_if_gone(tx: Connection, ids: Sequence[int]) -> None:
    if any(len(_locked(tx, some, changes.c.discarded_at.is_(None))) < len(some) for some in portions(sorted(ids))):
        raise LettersGoneError


def _effects_of_replay(tx: Connection, ids: Sequence[int]) -> dict[int, ReplayEffect]:
    effects: dict[int, ReplayEffect] = {}
    query = select(changes.c.id, slots.c.newest_id).join(slots, own_slot(changes)).where(*_DEAD).order_by(changes.c.id)
    for some in portions(ids):
        for number, newest in plain_rows(tx.execute(query.where(among(changes.c.id, some)))):
            effects[number] = ReplayEffect.REPLAYED if newest == number else ReplayEffect.SUPERSEDED
    return effects


def _revive(lock: MergeLock, rows: Sequence[Row[Any]], now: int) -> None:
    tx = lock.tx
    newest = [row.id for row in rows if row.newest_id == row.id]
    overtaken = [row for row in rows if row.newest_id != row.id]
    alive = {"state": State.PENDING.value, "settled_at": None, "attempts": 0, "discarded_at": None}
    tx.execute(update(changes).where(among(changes.c.id, newest)).values(**alive))
    for row in overtaken:
        mine = update(changes).where(changes.c.id == row.id)
        tx.execute(mine.values(state=State.SUPERSEDED.value, superseded_by=row.newest_id))
    note_state(tx, State.PENDING, newest, now)
    note_state(tx, State.SUPERSEDED, [row.id for row in overtaken], now)
    enqueue(lock, newest, now=now)


def _note(tx: Connection, effects: Mapping[int, str], *, who: str, why: str, now: int) -> None:
    rows = [(now, who, str(effect), why, number) for number, effect in effects.items()]
    bulk(tx).insert(audit_log, ("at", "who", "what", "why", "change_id"), rows, NEW)


def _query(which: DeadLetterFilter) -> Select[Any]:
    who = (targets.c.connection, targets.c.address, targets.c.target_key)
    return (
        select(changes, *who, imports.c.name.label("import_name"), imports.c.kind.label("import_kind"))
        .join(targets, targets.c.id == changes.c.target_id)
        .join(imports, imports.c.id == changes.c.import_id)
        .where(*_DEAD, *_conditions(which))
        .order_by(changes.c.settled_at, changes.c.id)
    )


def _among_letters(tx: Connection, query: Select[Any]) -> CursorResult[Any]:
    """Look for changes among the dead letters: of a join, PostgreSQL makes a walk through all changes."""
    return tx.execute(query.where(bulk(tx).among_found(changes.c.id, select(dead_letters.c.change_id))))


def _conditions(which: DeadLetterFilter) -> list[ColumnElement[bool]]:
    filters: list[tuple[object, ColumnElement[bool]]] = [
        (which.ids, changes.c.id.in_(which.ids)),
        (which.target_ids is not None, targets.c.id.in_(which.target_ids or ())),
        (which.connection, targets.c.connection == which.connection),
        (which.code, changes.c.code == which.code),
        (which.import_id, changes.c.import_id == which.import_id),
        (which.died_before, changes.c.settled_at < (which.died_before or 0)),
        (which.died_after, changes.c.settled_at > (which.died_after or 0)),
        (not which.discarded, changes.c.discarded_at.is_(None)),
    ]
    return [condition for wanted, condition in filters if wanted]


def _letter(row: Row[Any]) -> DeadLetter:
    return DeadLetter(
        id=row.id,
        connection=row.connection,
        address=json.loads(row.address),
        slot=row.slot,
        action=Action(row.action),
        effective_at=row.effective_at,
        details=json.loads(row.details),
        code=row.code or "",
        reason=row.reason or "",
        attempts=row.attempts,
        import_id=row.import_id,
        import_name=row.import_name,
        import_kind=row.import_kind,
        line=row.line,
        died_at=row.settled_at,
        discarded=row.discarded_at is not None,
        public_id=public_id(row.target_key, row.dedupe_key),
    )
