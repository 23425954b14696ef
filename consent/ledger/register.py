"""Holding new words against the registers of their slots: the newest-wins rule, applied to the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, select, text, update

from consent.change import Action
from consent.ledger.bulk import Renewal, UpdateEach, among, insert_or_update, look_up_by_key, portions
from consent.ledger.schema import changes, customer_tasks, slots
from consent.newest import Register, Superseded, Unchanged, Word, judge
from consent.outcome import State

_ACCEPT_LOCK = 7_301_127  # one acceptance at a time on PostgreSQL: two would wait for each other, and number one target
_FOLD_LOCK = 7_301_126  # one fold at a time on PostgreSQL; SQLite has one writer anyway
_ACTIONS = {action.value: action for action in Action}

Slot = tuple[int, str]


class NewWord(NamedTuple):
    """A recorded change, as much of it as the rule and the making of customer tasks need."""

    id: int
    target_id: int
    slot: str
    action: str
    value: str
    effective_at: int
    origin: str
    dedupe_key: bytes


_WORD_COLUMNS = tuple(changes.c[name] for name in NewWord._fields)
_newest = changes.alias("newest")


def word_of(row: Row[Any]) -> NewWord:
    """Return a change's row as a word."""
    return NewWord(row.id, row.target_id, row.slot, row.action, row.value, row.effective_at, row.origin, row.dedupe_key)


@dataclass(slots=True)
class _Folded:
    registers: dict[Slot, Register] = field(default_factory=dict)
    newest: dict[Slot, bytes] = field(default_factory=dict)
    pending: dict[int, NewWord | None] = field(default_factory=dict)
    superseded: list[dict[str, int]] = field(default_factory=list)
    unchanged: list[int] = field(default_factory=list)


def fold(
    tx: Connection, meant: Sequence[ColumnElement[bool]], limit: int, *, now: int, reassert: bool
) -> tuple[int | None, list[NewWord]]:
    """Decide the fate of the first `limit` changes that are meant, and write it down.

    Returns the number of the last of them (None: there was none), and those that stand and must be delivered; the
    others are superseded or unchanged. Locks are taken in the order customer tasks, slots, changes, as everywhere in
    the ledger.
    """
    keep_out(tx, meant, limit)
    folded, last = _Folded(), None
    for *fields, newest_id, newest_at, newest_action, confirmed, state in tx.execute(
        _with_registers(meant, limit)
    ).all():
        word = NewWord(*fields)
        last, slot = word.id, (word.target_id, word.slot)
        if slot not in folded.registers:
            known = Word(newest_at, _ACTIONS[newest_action], newest_id) if newest_id is not None else None
            folded.registers[slot] = Register(known, confirmed)
            if state == State.PENDING.value:
                folded.pending[newest_id] = None
        _hold(folded, slot, word, reassert=reassert)
    _write(tx, folded, now)
    return last, [word for word in folded.pending.values() if word is not None]


def _with_registers(meant: Sequence[ColumnElement[bool]], limit: int) -> Select[Any]:
    own = (slots.c.target_id == changes.c.target_id) & (slots.c.slot == changes.c.slot)
    return (
        select(
            *_WORD_COLUMNS,
            slots.c.newest_id,
            slots.c.newest_at,
            slots.c.newest_action,
            slots.c.confirmed,
            _newest.c.state,
        )
        .outerjoin(slots, own)
        .outerjoin(_newest, _newest.c.id == slots.c.newest_id)
        .where(*meant)
        .order_by(changes.c.id)
        .limit(limit)
    )


def _hold(folded: _Folded, slot: Slot, new: NewWord, *, reassert: bool) -> None:
    known = folded.registers[slot].newest
    if known is not None and known.arrival == new.id:  # it was weighed before another import took it over
        folded.pending[new.id] = new
        return
    word = Word(new.effective_at, _ACTIONS[new.action], new.id, new.value)
    register, verdict = judge(folded.registers[slot], word, reassert=reassert)
    if isinstance(verdict, Superseded):
        folded.superseded.append({"loser": new.id, "winner": verdict.by})
        return
    folded.registers[slot] = register
    folded.newest[slot] = new.dedupe_key
    if verdict.over in folded.pending:
        del folded.pending[verdict.over]
        folded.superseded.append({"loser": verdict.over, "winner": new.id})
    if isinstance(verdict, Unchanged):
        folded.unchanged.append(new.id)
    else:
        folded.pending[new.id] = new


def _write(tx: Connection, folded: _Folded, now: int) -> None:
    for ids in portions(folded.unchanged):
        settled = update(changes).where(among(tx, changes.c.id, ids), changes.c.state == State.PENDING.value)
        tx.execute(settled.values(state=State.UNCHANGED.value, settled_at=now))
    look_up_by_key(tx)
    _SUPERSEDE.run(tx, [row | {"now": now} for row in folded.superseded])
    rows = [_slot_row(slot, folded.registers[slot], folded.newest[slot]) for slot in sorted(folded.newest)]
    insert_or_update(tx, slots, _SLOT_COLUMNS, rows, _RENEWED)


_SLOT_COLUMNS = ("target_id", "slot", "newest_id", "newest_at", "newest_action", "newest_key")
_RENEWED = Renewal({name: f"excluded.{name}" for name in _SLOT_COLUMNS[2:]})
_SUPERSEDE = UpdateEach(
    table="changes",
    types={"loser": "bigint", "winner": "bigint", "now": "bigint"},
    values=f"state = '{State.SUPERSEDED.value}', superseded_by = {{winner}}, settled_at = {{now}}",
    where=f"id = {{loser}} AND state = '{State.PENDING.value}'",
)


def _slot_row(slot: Slot, register: Register, key: bytes) -> tuple[object, ...]:
    newest = register.newest
    if newest is None:
        raise AssertionError("a register that was touched holds a word")
    return (*slot, newest.arrival, newest.effective_at, str(newest.action), key)


def one_at_a_time(tx: Connection) -> None:
    """Keep other acceptances out until this transaction ends; SQLite has one writer anyway."""
    if tx.dialect.name == "postgresql":
        tx.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _ACCEPT_LOCK})


def keep_out(tx: Connection, meant: Sequence[ColumnElement[bool]], limit: int) -> None:
    """Keep other folds out until this transaction ends, and claims and settlements of the changes' targets."""
    some = select(changes.c.target_id).where(*meant).order_by(changes.c.id).limit(limit).subquery()
    keep_out_of(tx, select(some.c.target_id))


def keep_out_of(tx: Connection, numbers: Select[tuple[int]]) -> None:
    """Do the same for these targets."""
    if tx.dialect.name != "postgresql":
        return
    tx.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _FOLD_LOCK})
    tasks = select(customer_tasks.c.target_id).where(customer_tasks.c.target_id.in_(numbers))
    tx.execute(tasks.order_by(customer_tasks.c.target_id).with_for_update())
