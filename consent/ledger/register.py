"""Holding new words against the registers of their slots: the newest-wins rule, applied to the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, select, text, update

from consent.change import Action
from consent.ledger.bulk import insert_or_update, portions, run_many
from consent.ledger.schema import changes, customer_tasks, slots
from consent.newest import Register, Superseded, Unchanged, Word, judge
from consent.outcome import State

_FOLD_LOCK = 7_301_126  # one fold at a time on PostgreSQL; SQLite has one writer anyway

_ACTIONS = {action.value: action for action in Action}

Slot = tuple[bytes, str]


class NewWord(NamedTuple):
    """A recorded change that has not been held against its slot's register yet."""

    id: int
    target_key: bytes
    slot: str
    action: str
    value: str
    effective_at: int
    origin: str


def word_of(row: Row[Any]) -> NewWord:
    """Return a change's row as a word."""
    return NewWord(row.id, row.target_key, row.slot, row.action, row.value, row.effective_at, row.origin)


@dataclass(slots=True)
class _Folded:
    registers: dict[Slot, Register]
    touched: set[Slot] = field(default_factory=set)
    superseded: list[dict[str, int]] = field(default_factory=list)
    unchanged: list[int] = field(default_factory=list)
    standing: dict[int, NewWord] = field(default_factory=dict)


def fold(tx: Connection, words: Sequence[NewWord], *, now: int, reassert: bool) -> list[NewWord]:
    """Decide each word's fate and write it down; return the words that stand and must be delivered.

    Locks are taken in the order customer tasks, slots, changes, as everywhere in the ledger.
    """
    if not words:
        return []
    keys = sorted({word.target_key for word in words})
    _lock(tx, keys)
    folded = _Folded(_registers(tx, keys))
    for word in words:
        _hold(folded, word, reassert=reassert)
    _write(tx, folded, now)
    return list(folded.standing.values())


def _hold(folded: _Folded, new: NewWord, *, reassert: bool) -> None:
    slot = (new.target_key, new.slot)
    word = Word(new.effective_at, _ACTIONS[new.action], new.id, new.value)
    register, verdict = judge(folded.registers.get(slot, Register()), word, reassert=reassert)
    if isinstance(verdict, Superseded):
        folded.superseded.append({"loser": new.id, "winner": verdict.by})
        return
    folded.registers[slot] = register
    folded.touched.add(slot)
    if verdict.over is not None:
        folded.standing.pop(verdict.over, None)
        folded.superseded.append({"loser": verdict.over, "winner": new.id})
    if isinstance(verdict, Unchanged):
        folded.unchanged.append(new.id)
    else:
        folded.standing[new.id] = new


def _write(tx: Connection, folded: _Folded, now: int) -> None:
    # Unchanged first: a word that was unchanged before it was overtaken has been settled, and stays so.
    for ids in portions(folded.unchanged):
        settled = update(changes).where(changes.c.id.in_(ids), changes.c.state == State.PENDING)
        tx.execute(settled.values(state=State.UNCHANGED, settled_at=now))
    run_many(tx, _SUPERSEDE, [row | {"now": now} for row in folded.superseded])
    rows = [_slot_row(slot, folded.registers[slot]) for slot in sorted(folded.touched)]
    insert_or_update(tx, slots, _SLOT_COLUMNS, rows, _RENEWED)


_SLOT_COLUMNS = ("target_key", "slot", "newest_id", "newest_at", "newest_action")
_RENEWED = {name: f"excluded.{name}" for name in ("newest_id", "newest_at", "newest_action")}


_SUPERSEDE = (
    update(changes)
    .where(changes.c.id == bindparam("loser"), changes.c.state == State.PENDING)
    .values(state=State.SUPERSEDED, superseded_by=bindparam("winner"), settled_at=bindparam("now"))
)


def _slot_row(slot: Slot, register: Register) -> tuple[object, ...]:
    newest = register.newest
    if newest is None:
        raise AssertionError("a register that was touched holds a word")
    return (*slot, newest.arrival, newest.effective_at, newest.action.value)


def _lock(tx: Connection, keys: Sequence[bytes]) -> None:
    if tx.dialect.name != "postgresql":
        return
    tx.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _FOLD_LOCK})
    for some in portions(keys):
        tasks = select(customer_tasks.c.target_key).where(customer_tasks.c.target_key.in_(some))
        tx.execute(tasks.order_by(customer_tasks.c.target_key).with_for_update())


def _registers(tx: Connection, keys: Iterable[bytes]) -> dict[Slot, Register]:
    found: dict[Slot, Register] = {}
    for some in portions(list(keys)):
        query = select(slots).where(slots.c.target_key.in_(some)).order_by(slots.c.target_key, slots.c.slot)
        for key, slot, newest_id, newest_at, action, confirmed in tx.execute(query.with_for_update()).all():
            newest = Word(newest_at, _ACTIONS[action], newest_id)
            found[key, slot] = Register(newest, confirmed)
    return found
