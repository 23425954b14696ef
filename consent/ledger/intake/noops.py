"""No-ops: rows of a file that say again what is so already, which is most of a nightly dump.

They are told apart by one look at their slots (`IncomingBatch.set_noops_aside`): the very change that is the slot's
newest is a duplicate; one that says what the newest says, and the provider is confirmed to hold, is set aside as a
no-op. Whether it still is one is decided when the file has been read whole, by the same SQL as for any other change. A
no-op moves its slot's newest moment forward, so that an older change which comes late cannot win, and nothing else.
What is no no-op any more becomes an ordinary change.
"""

from __future__ import annotations

from array import array
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, func, literal, or_, select, update

from consent.change import Action, Origin
from consent.ledger.dialects.locks import MergeLock, RecordingLock
from consent.ledger.dialects.statements import among, bulk, plain_numbers, plain_rows
from consent.ledger.intake.imports import ReassertTerms
from consent.ledger.intake.reassign import reassign
from consent.ledger.merge_terms import (
    SETTLED_WELL,
    is_always_sent,
    is_fresh,
    is_not_older,
    is_stamped,
    own_slot,
    rank,
)
from consent.ledger.schema import changes, imports, noop_changes, slots
from consent.outcome import State

CHUNK = 20_000


def merge_noops(lock: RecordingLock, row: Any, *, now: int, reassert: ReassertTerms) -> int:
    """Merge the next no-ops of an import, a row of `imports`; return how many (0: there was none left)."""
    tx = lock.tx
    mine = (noop_changes.c.import_id == row.id, noop_changes.c.number > row.noops_merged_to)
    some = select(noop_changes.c.number).where(*mine).order_by(noop_changes.c.number).limit(CHUNK).subquery()
    count, last = tx.execute(select(func.count(), func.max(some.c.number))).one()
    if not count:
        return 0
    meant = (*mine, noop_changes.c.number <= last)
    MergeLock.of_targets(tx, select(noop_changes.c.target_id).where(*meant), reassigns=True)
    dropped, ordinary, fresh = 0, 0, 0
    if _found(tx, _others(meant, reassert).limit(1)):
        dropped = _drop_duplicates(tx, meant, _is_newest())
        ordinary, fresh = _make_ordinary(lock, row.id, _these(row.id, _found(tx, _others(meant, reassert))), now)
    if _move_forward(tx, meant) < count - dropped - ordinary:  # there are several of one slot
        dropped += _drop_duplicates(tx, meant)
        more = _make_ordinary(lock, row.id, _these(row.id, _found(tx, _beaten(meant))), now)
        ordinary, fresh = ordinary + more[0], fresh + more[1]
        _move_forward(tx, meant)
    taken_out, known = dropped + ordinary, dropped + ordinary - fresh
    counted = {
        "noops_merged_to": last,
        "noops": imports.c.noops - taken_out,
        "recorded": imports.c.recorded - known,
        "duplicates": imports.c.duplicates + known,
        "stamped": imports.c.stamped + _count_stamped(tx, meant, reassert),
    }
    tx.execute(update(imports).where(imports.c.id == row.id).values(**counted))
    return int(count)


_Meant = tuple[ColumnElement[bool], ...]


def _others(meant: _Meant, reassert: ReassertTerms) -> Select[Any]:
    """Find those that are no no-ops any more: not the newest of their slot, or not confirmed, or to be sent again.

    A no-op arrives after its slot's newest, so that a tie is its own. It has no value, nor must the newest have one.
    """
    newest = (changes.c.value == "", changes.c.state.in_(SETTLED_WELL))
    agrees = (slots.c.newest_action == noop_changes.c.action, slots.c.confirmed == noop_changes.c.action)
    sent = or_(is_fresh(noop_changes, reassert), is_always_sent(noop_changes, reassert))
    is_noop = and_(
        *newest,
        *agrees,
        is_not_older(noop_changes),
        slots.c.newest_key.is_distinct_from(noop_changes.c.dedupe_key),
        ~sent,
    )
    return (
        select(noop_changes.c.number)
        .outerjoin(slots, own_slot(noop_changes))
        .outerjoin(changes, changes.c.id == slots.c.newest_id)
        .where(*meant, ~func.coalesce(is_noop, False))
    )


def _beaten(meant: _Meant) -> Select[Any]:
    """Find those that another one of the same slot beats."""
    order = rank(noop_changes.c.effective_at, noop_changes.c.action, noop_changes.c.number)
    slot = (noop_changes.c.target_id, noop_changes.c.slot)
    place = func.row_number().over(partition_by=slot, order_by=[part.desc() for part in order])
    ranked = select(noop_changes.c.number, place.label("place")).where(*meant).subquery()
    return select(ranked.c.number).where(ranked.c.place > 1)


def _found(tx: Connection, query: Select[Any]) -> array[int]:
    """Run a query for numbers of no-ops once: as a part of others, PostgreSQL may run it again for each no-op."""
    return plain_numbers(tx.execute(query))


def _these(import_id: str, numbers: array[int]) -> _Meant:
    return (noop_changes.c.import_id == import_id, among(noop_changes.c.number, numbers))


def _is_newest() -> ColumnElement[bool]:
    """Say that a no-op is the very change that is its slot's newest."""
    same = slots.c.newest_key == noop_changes.c.dedupe_key
    return select(literal(1)).where(own_slot(noop_changes), same).correlate(noop_changes).exists()


def _drop_duplicates(tx: Connection, meant: _Meant, *known: ColumnElement[bool]) -> int:
    """Drop those that are known, or stand further up in the file; return how many."""
    first = select(func.min(noop_changes.c.number)).where(*meant).group_by(noop_changes.c.dedupe_key)
    return tx.execute(delete(noop_changes).where(*meant, or_(*known, noop_changes.c.number.not_in(first)))).rowcount


def hold_noops(lock: RecordingLock, import_id: str, action: Action, now: int) -> None:
    """Make held changes of the no-ops with this action: their import is published without them."""
    tx, mine = lock.tx, noop_changes.c.import_id == import_id
    others = (mine, noop_changes.c.action == action.value)
    count, fresh = _make_ordinary(lock, import_id, others, now, State.HELD)
    known = count - fresh
    counted = {
        "noops": imports.c.noops - count,
        "recorded": imports.c.recorded - known,
        "duplicates": imports.c.duplicates + known,
    }
    tx.execute(update(imports).where(imports.c.id == import_id).values(**counted))


def _make_ordinary(
    lock: RecordingLock, import_id: str, others: _Meant, now: int, state: State = State.PENDING
) -> tuple[int, int]:
    """Make ordinary changes of what is no no-op; return how many were none, and how many of them are new.

    Those that an import which broke off keeps back are taken over: they would be known, and never delivered.
    """
    tx = lock.tx
    same = and_(changes.c.target_id == noop_changes.c.target_id, changes.c.dedupe_key == noop_changes.c.dedupe_key)
    recorded = select(changes.c.id, changes.c.import_id, noop_changes.c.line, changes.c.state)
    recorded = recorded.join_from(noop_changes, changes, same)
    fresh = len(reassign(lock, import_id, plain_rows(tx.execute(recorded.where(*others))), state))
    constant = {
        "import_id": import_id,
        "origin": Origin.BULK.value,
        "recorded_at": now,
        "state": state.value,
        "value": "",
    }
    own = [noop_changes.c[name] for name in _OWN]
    values = [literal(value, changes.c[name].type) for name, value in constant.items()]
    rows = select(*own, *values).where(*others).order_by(noop_changes.c.target_id, noop_changes.c.number)
    fresh += bulk(tx).insert_new_from(changes, [*_OWN, *constant], rows)
    return tx.execute(delete(noop_changes).where(*others)).rowcount, fresh


_OWN = ("dedupe_key", "line", "target_id", "slot", "action", "effective_at", "details", "own_time", "due_at", "rule")


def _move_forward(tx: Connection, meant: _Meant) -> int:
    """Let these no-ops be the newest of their slots; return how many slots that are."""
    newest = {"newest_at": noop_changes.c.effective_at, "newest_key": noop_changes.c.dedupe_key}
    return tx.execute(update(slots).where(*meant, own_slot(noop_changes)).values(**newest)).rowcount


def _count_stamped(tx: Connection, meant: _Meant, reassert: ReassertTerms) -> int:
    """Return how many of the no-ops are opt-outs that would be sent but for their time, which is the export's."""
    if reassert.export_time is None:
        return 0
    held = select(func.count()).select_from(noop_changes).join(slots, own_slot(noop_changes))
    stamped = and_(is_stamped(noop_changes, reassert), ~is_always_sent(noop_changes, reassert))
    return tx.execute(held.where(*meant, stamped)).scalar_one()
