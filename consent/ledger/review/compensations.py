"""What undoing an import does to each slot that it is about, and what it cannot do.

All that was said of a slot counts, newest first: changes, and no-ops, by which a later file said the same again. Looked
past are the import itself, imports that were undone, and what undid them. If such a one is the slot's newest, the slot
goes back to what is left; else something was said later, and that stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from hashlib import blake2b
from itertools import groupby
from operator import attrgetter
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Select,
    String,
    Subquery,
    and_,
    bindparam,
    func,
    literal,
    null,
    or_,
    select,
)

from consent.change import Action
from consent.identifiers.masking import masked
from consent.ledger.database import Database
from consent.ledger.dialects.statements import among
from consent.ledger.keys import KEY_BYTES
from consent.ledger.merge_terms import own_slot, rank
from consent.ledger.review.effects import UNDO
from consent.ledger.review.undo_plan import BackTo, UndoPlan
from consent.ledger.schema import changes, imports, noop_changes, slots, targets
from consent.outcome import State
from consent.times import from_micros

AFTER = 1
"""Microseconds from a mistaken change to the one that undoes it."""

COLUMNS = ("dedupe_key", "line", "target_id", "slot", "action", "value", "effective_at", "details", "own_time")
"""What a compensating change holds, in this order."""

_IN, _OUT = Action.OPTIN.value, Action.OPTOUT.value
_UNMERGED = (State.HELD.value, State.WITHDRAWN.value)


_Row = Any
"""A row of one of the queries below."""

Compensation = tuple[str, tuple[Any, ...]]
"""A compensating change as COLUMNS, beside its connection."""


def compensations(
    database: Database, import_id: str, plan: UndoPlan, at_once: int, *, opt_in_again: bool
) -> Iterator[list[Compensation]]:
    """Give the changes that undo an import, at most so many at once; what becomes of each slot is counted."""
    seen: set[int] = set()
    for table in (changes, noop_changes):
        last = 0
        while True:
            rows, facts = database.read(partial(_read, import_id=import_id, table=table, after=last, at_once=at_once))
            if not rows:
                break
            last = rows[-1].mine
            new = {row.id: row for row in rows if row.id not in seen}
            seen |= new.keys()
            made = [(row, _compensation(row, facts, plan, opt_in_again=opt_in_again)) for row in new.values()]
            yield [(row.connection, one) for row, one in made if one is not None]
    repeated_by = sorted({share.import_id for share in plan.shares})
    names = select(imports.c.id, imports.c.name).where(imports.c.id.in_(repeated_by))
    plan.names.update((one.id, one.name) for one in database.read(lambda tx: tx.execute(names).all()))


@dataclass(frozen=True, slots=True)
class _Statement:
    """One statement about a slot that may count when an import is undone."""

    import_id: str
    action: str
    value: str
    effective_at: int
    details: str
    key: bytes


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of some slots, by the number of their newest change.

    `before` is the newest that is left; `repeats` is who says the newest of a slot whose newest is a no-op (None: an
    import that is looked past). A slot whose newest no-op is not known is in neither.
    """

    import_id: str
    before: dict[int, _Statement]
    repeats: dict[int, str | None]

    def stands_by(self, row: _Row) -> str | None:
        """Return the import whose change stands in a slot and stays there; None if it is looked past."""
        if _is_by_noop(row):
            return self.repeats.get(row.id, row.import_id)
        looked_past = row.import_id == self.import_id or row.kind == UNDO or _was_undone(row)
        return None if looked_past else str(row.import_id)


def _read(tx: Connection, import_id: str, table: Any, after: int, at_once: int) -> tuple[Sequence[_Row], _Facts]:
    rows = _slots_of(tx, import_id, table, after, at_once)
    facts = _Facts(import_id, {}, {})
    if rows:
        _find_before(tx, import_id, rows, facts)
        _look_at_noops(tx, import_id, rows, facts)
    return rows, facts


def _slots_of(tx: Connection, import_id: str, table: Any, after: int, at_once: int) -> Sequence[_Row]:
    """Return the newest change of each slot that the next of an import's merged changes, or no-ops, are about.

    `mine` is the number of the import's own one, `own_action` and `own_value` what it states.
    """
    asked = {"its": import_id, "after": after, "most": at_once}
    return tx.execute(_find_slots(table), asked).all()


@cache
def _find_slots(table: Any) -> Select[Any]:
    newest, number = changes.alias("newest"), table.c.id if table is changes else table.c.number
    own = (number.label("mine"), table.c.line.label("my_line"), table.c.action.label("own_action"))
    value = table.c.value if table is changes else literal("")
    held = (slots.c.newest_at, slots.c.newest_key, targets.c.address, targets.c.connection)
    undone = (imports.c.kind, imports.c.undone_at, imports.c.optouts_undone_at)
    query = select(*newest.c, *own, value.label("own_value"), *held, *undone)
    query = query.join_from(table, slots, own_slot(table)).join(newest, newest.c.id == slots.c.newest_id)
    query = query.join(imports, imports.c.id == newest.c.import_id).join(targets, targets.c.id == table.c.target_id)
    its = bindparam("its", type_=String)
    mine = [table.c.import_id == its, number > bindparam("after", type_=BigInteger)]
    if table is changes:
        mine.append(table.c.state.not_in(_UNMERGED))
    else:
        mine.append(number <= select(imports.c.noops_merged_to).where(imports.c.id == its).scalar_subquery())
    return query.where(*mine).order_by(number).limit(bindparam("most", type_=Integer))


def _find_before(tx: Connection, import_id: str, rows: Sequence[_Row], facts: _Facts) -> None:
    """Find the newest change of each slot that is not looked past."""
    other = changes.alias("other")
    newest_first = [part.desc() for part in rank(other.c.effective_at, other.c.action, other.c.id)]
    same = and_(other.c.target_id == changes.c.target_id, other.c.slot == changes.c.slot)
    counts = and_(
        other.c.state.not_in(_UNMERGED),
        or_(
            other.c.state != State.PENDING.value,  # of an import that is being published, in part for the second time
            imports.c.state.in_(("merged", "released")),
            imports.c.stream == 1,
        ),
    )
    names = ("import_id", "dedupe_key", "action", "value", "effective_at", "details", "recorded_at")
    undone = (imports.c.kind, imports.c.undone_at, imports.c.optouts_undone_at)
    query = select(changes.c.id.label("newest"), *(other.c[name] for name in names), *undone)
    query = query.join(other, same).join(imports, imports.c.id == other.c.import_id)
    some = query.where(among(changes.c.id, [row.id for row in rows]), counts).order_by(changes.c.id, *newest_first)
    for number, group in groupby(tx.execute(some), key=attrgetter("newest")):
        candidates = list(group)
        undoing = {one.dedupe_key for one in candidates if one.kind == UNDO}
        for one in candidates:
            past = one.kind == UNDO or one.import_id == import_id or _was_undone(one)
            if not past and key_of_undoing(one.dedupe_key) not in undoing:
                facts.before[number] = _statement(one)
                break


def _look_at_noops(tx: Connection, import_id: str, rows: Sequence[_Row], facts: _Facts) -> None:
    """Look who else said the newest of some slots, and whether a no-op that is left is newer than `before`.

    No-ops are found by their import alone, so each look reads all those of the imports which may matter. None of them
    does that was over before the first import which is looked past began.
    """
    past = or_(imports.c.id == import_id, imports.c.undone_at.is_not(None))
    began = select(func.min(imports.c.started_at)).where(past).scalar_subquery()
    later = or_(imports.c.released_at.is_(None), imports.c.released_at >= began)
    some = select(imports.c.id).where(imports.c.noops_merged_to > 0, later)
    if not (which := list(tx.execute(some).scalars())):
        return
    of_row = {(row.target_id, row.slot): row for row in rows}
    undoing = _undoing_keys(tx, rows)
    for one in tx.execute(_noops_about(which, [row.id for row in rows])):
        row = of_row[one.target_id, one.slot]
        left = one.import_id != import_id and not _was_undone(one) and key_of_undoing(one.dedupe_key) not in undoing
        if _is_by_noop(row) and one.dedupe_key == row.newest_key:
            facts.repeats[row.id] = one.import_id if left else None
        before = facts.before.get(row.id)
        if left and (before is None or _rank(one) >= _rank(before)):
            facts.before[row.id] = _statement(one)


def _undoing_keys(tx: Connection, rows: Sequence[_Row]) -> set[bytes]:
    """Return the keys of what undoes anything in these slots."""
    mine = among(changes.c.target_id, sorted({row.target_id for row in rows}))
    query = select(changes.c.dedupe_key).join(imports, imports.c.id == changes.c.import_id)
    return set(tx.execute(query.where(mine, imports.c.kind == UNDO)).scalars())


def _noops_about(import_ids: Sequence[str], newest: Sequence[int]) -> Any:
    about: Subquery = select(changes.c.target_id, changes.c.slot).where(among(changes.c.id, newest)).subquery()
    noops = noop_changes.c
    names = ("import_id", "target_id", "slot", "action", "effective_at", "details", "dedupe_key")
    undone = (imports.c.undone_at, imports.c.optouts_undone_at, null().label("recorded_at"), literal("").label("value"))
    query = select(*(noops[name] for name in names), *undone).join(imports, imports.c.id == noops.import_id)
    query = query.join(about, and_(about.c.target_id == noops.target_id, about.c.slot == noops.slot))
    merged: ColumnElement[bool] = noops.number <= imports.c.noops_merged_to
    return query.where(noops.import_id.in_(import_ids), merged)


def _is_by_noop(row: _Row) -> bool:
    """Whether a slot's newest is a no-op, and not the newest change."""
    return bool(row.newest_at != row.effective_at or row.newest_key not in (None, row.dedupe_key))


def _was_undone(one: _Row) -> bool:
    """Whether it was said by an import that was undone since; its opt-outs are left to stand unless that was asked."""
    at = one.undone_at if one.action == _IN else one.optouts_undone_at
    return at is not None and (one.recorded_at is None or one.recorded_at <= at)


def _statement(one: _Row) -> _Statement:
    return _Statement(one.import_id, one.action, one.value, one.effective_at, one.details, one.dedupe_key)


def _rank(one: Any) -> tuple[int, bool]:
    return one.effective_at, one.action == _OUT


def key_of_undoing(key: bytes) -> bytes:
    """Return the key of the change that undoes the one with this key."""
    return blake2b(key + b" undone", digest_size=KEY_BYTES).digest()


def _compensation(row: _Row, facts: _Facts, plan: UndoPlan, *, opt_in_again: bool) -> tuple[Any, ...] | None:
    """Return the change that takes a slot back to what it held before, or count why there is none."""
    if (by := facts.stands_by(row)) is not None:
        _note_overtaken(row, by, plan)
        return None
    before = facts.before.get(row.id)
    if before is None and row.value:
        plan.no_value += 1
        _list(plan, row, "has no earlier value to go back to")
        return None
    action, value, details = (
        (_OUT, "", row.details) if before is None else (before.action, before.value, before.details)
    )
    if (action, value) == (row.action, row.value) and (before is not None or row.action == _IN or row.kind == UNDO):
        plan.same += 1
        return None
    if row.action == _OUT and (before is None or not (opt_in_again and action == _IN)):
        plan.opted_out += 1
        plan.were_in += before is not None and action == _IN
        _list(plan, row, "was opted out" if before is None else "was opted out, and was in before: --opt-in-again")
        return None
    _note_back(before, plan)
    key = key_of_undoing(row.newest_key or row.dedupe_key)
    return key, row.my_line, row.target_id, row.slot, action, value, row.newest_at + AFTER, details, 1


def _note_back(before: _Statement | None, plan: UndoPlan) -> None:
    if before is None:
        plan.note_back(BackTo.NEVER_SAID)
    elif before.value:
        plan.note_back(BackTo.EARLIER_VALUE, before.import_id)
    else:
        plan.note_back(BackTo.OPTED_IN if before.action == _IN else BackTo.OPTED_OUT, before.import_id)


def _note_overtaken(row: _Row, by: str, plan: UndoPlan) -> None:
    plan.overtaken += 1
    if (row.action, row.value) != (row.own_action, row.own_value):
        return
    plan.repeated += 1
    plan.repeated_by[by] = plan.repeated_by.get(by, 0) + 1
    _list(plan, row, f"stays at {row.action}, which import {by} said again")


def _list(plan: UndoPlan, row: _Row, message: str) -> None:
    who = f"line {row.my_line}: {masked(orjson.loads(row.address))} {row.slot}"
    plan.list(f"{who} {message} ({from_micros(row.newest_at):%Y-%m-%d})")
