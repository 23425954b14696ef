"""Steps by which a decision about a fuse is carried out, each a transaction: any process may go on with it.

Whatever needs both locks customer tasks before fuses, as settling does, and several fuses in the order of their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, or_, select, update

from consent.change import Lane, read_bucket
from consent.guards.fuse import NOT_SENT, FuseState
from consent.ledger.dialects.statements import NEW, among, bulk, plain_rows
from consent.ledger.queue.enqueue import left_of, of_bucket
from consent.ledger.queue.outcome_log import note_dead, still_pending
from consent.ledger.review.fuse_counts import BUCKET, IMPORT, STOPS, fuses, is_held
from consent.ledger.review.guard_checks import OPTRELAY, note_decision
from consent.ledger.schema import changes, customer_tasks, dead_letters, imports, targets
from consent.outcome import State

STEP = 2_000
"""Customers of one step."""


def same(row: Row[Any]) -> tuple[Any, Any]:
    """Say that a fuse is this one."""
    return fuses.c.name == row.name, fuses.c.origin == row.origin


def unhold(tx: Connection, row: Row[Any], now: int) -> int:
    """Enqueue some of the held tasks of a bucket; the next claims set those aside again that another fuse holds.

    Returns how many; 0 if none are left, or if another process is doing it.
    """
    row = tx.execute(select(fuses).where(*same(row))).one()
    if row.unheld_to is None:
        return 0
    bucket = read_bucket(row.name)
    lanes = (customer_tasks.c.lane <= int(Lane.BULK_OPTOUT),) if row.state == FuseState.OPTOUTS else ()
    held = select(customer_tasks.c.target_id).where(is_held, *of_bucket(bucket), *lanes)
    some = held.where(customer_tasks.c.target_id > row.unheld_to).order_by(customer_tasks.c.target_id).limit(STEP)
    numbers = list(tx.execute(some.with_for_update()).scalars())
    locked = tx.execute(select(fuses).where(*same(row)).with_for_update()).one()
    if (locked.unheld_to, locked.state) != (row.unheld_to, row.state):
        return 0
    if numbers:
        mine = update(customer_tasks).where(among(customer_tasks.c.target_id, numbers))
        tx.execute(mine.values(waiting=1, next_at=now))
    tx.execute(update(fuses).where(*same(row)).values(unheld_to=numbers[-1] if numbers else None))
    return len(numbers)


def look_again(tx: Connection, connection: str, bucket: str | None) -> None:
    """Have the held tasks of a connection, or of one of its buckets, enqueued: claims set aside what is still held."""
    tripped = select(fuses.c.name).where(fuses.c.state.in_(STOPS)).distinct()
    buckets = [(name, read_bucket(name)) for name in tx.execute(tripped).scalars()]
    names = [name for name, one in buckets if one.connection == connection and bucket in (None, one.name)]
    if names:
        mine = (fuses.c.name.in_(names), fuses.c.state.in_(STOPS))
        in_order = select(fuses.c.origin).where(*mine).order_by(fuses.c.name, fuses.c.origin)
        tx.execute(in_order.with_for_update()).all()
        tx.execute(update(fuses).where(*mine).values(unheld_to=0))


def let_die(tx: Connection, row: Row[Any], now: int) -> int:
    """Make dead letters of some of the changes that are held; the tasks are locked before the fuse, as in settling."""
    row = tx.execute(select(fuses).where(*same(row))).one()
    if row.state != FuseState.DYING:
        return 0
    some = pending_of(tx, row).where(changes.c.id > row.dies_from, changes.c.id <= row.dies_to)
    found = plain_rows(tx.execute(some.order_by(changes.c.id).limit(STEP)))
    whose = sorted({target for _, target in found})
    tasks = select(customer_tasks.c.target_id, customer_tasks.c.lease_token)
    locked = tasks.where(among(customer_tasks.c.target_id, whose)).order_by(customer_tasks.c.target_id)
    leased = {target for target, token in tx.execute(locked.with_for_update()) if token is not None}
    row = tx.execute(select(fuses).where(*same(row)).with_for_update()).one()
    if row.state != FuseState.DYING:
        return 0
    dying = still_pending(tx, [number for number, target in found if target not in leased])
    ids = sorted(dying)
    dead = {"state": State.DEAD.value, "code": NOT_SENT, "reason": f"not sent: {row.reason}", "settled_at": now}
    tx.execute(update(changes).where(among(changes.c.id, ids)).values(**dead))
    bulk(tx).insert(dead_letters, ("change_id",), [(number,) for number in ids], NEW)
    note_dead(tx, ids, now)
    _give_back(tx, [target for target in whose if target not in leased], now)
    values: dict[str, Any] = {"dies_from": found[-1][0]} if found else {"dies_from": 0}
    if left := [number for number, target in found if target in leased]:
        values["dies_from"] = min(left) - 1
    elif not found:
        values = {"state": FuseState.CLOSED.value, "dies_from": None, "dies_to": None, "unheld_to": 0}
    tx.execute(update(fuses).where(*same(row)).values(**values))
    return len(whose) - len(leased)


def close_if_over(tx: Connection, row: Row[Any], now: int) -> None:
    """Close the fuse of an import of which nothing is left in the bucket: it was undone, or newer changes overtook it.

    What is left of the held tasks has something of another origin to deliver, or nothing: claims find out.
    """
    row = tx.execute(select(fuses).where(*same(row)).with_for_update()).one()
    if row.kind != IMPORT or row.state not in (FuseState.HELD, FuseState.OPTOUTS):
        return
    is_over = select(imports.c.id).where(imports.c.id == row.import_id, imports.c.state == "released")
    left = _changes_of(tx, row).where(changes.c.state.in_((State.PENDING.value, State.HELD.value)))
    if tx.execute(is_over).first() is None or tx.execute(left.limit(1)).first() is not None:
        return
    closed: dict[str, Any] = {"state": FuseState.CLOSED.value, "alike": None, "failed": None, "served": 0}
    tx.execute(update(fuses).where(*same(row)).values(**closed, unheld_to=0, touched_at=now))
    why = "nothing of the import is pending any more"
    note_decision(tx, row.import_id, OPTRELAY, f"fuse of {row.name} closed", why, now)


def _give_back(tx: Connection, numbers: Sequence[int], now: int) -> None:
    """Forget the tasks with nothing left to deliver, and let the others be claimed."""
    left = left_of(tx, numbers, set())
    for done, is_over in (([one for one in numbers if one not in left], True), (list(left), False)):
        mine = among(customer_tasks.c.target_id, done)
        if is_over:
            tx.execute(delete(customer_tasks).where(mine))
        else:
            tx.execute(update(customer_tasks).where(mine).values(waiting=1, next_at=now))


def pending_of(tx: Connection, row: Row[Any]) -> Any:
    """Return a query for the pending changes that a fuse is about: their numbers and targets."""
    return _changes_of(tx, row).where(changes.c.state == State.PENDING.value)


def _changes_of(tx: Connection, row: Row[Any]) -> Any:
    bucket = read_bucket(row.name)
    query = select(changes.c.id, changes.c.target_id).join(targets, targets.c.id == changes.c.target_id)
    mine = query.where(targets.c.connection == bucket.connection, targets.c.bucket == bucket.name)
    return mine if row.kind == BUCKET else mine.where(changes.c.import_id.in_(_imports_of(tx, row)))


def some_pending(tx: Connection, row: Row[Any], most: int) -> Any:
    """Return a query for so many of the pending changes that a fuse is about.

    Those of a file are met by its import, the latest rows first: what was served stands before them. An event source
    has no end, so its changes are met by the customers who have something left, and its past is not read.
    """
    if row.kind == IMPORT:
        return pending_of(tx, row).order_by(changes.c.id.desc()).limit(most)
    tasks = changes.join(customer_tasks, customer_tasks.c.target_id == changes.c.target_id)
    query = select(changes.c.id, changes.c.target_id).select_from(tasks).where(*of_bucket(read_bucket(row.name)))
    mine = query.where(changes.c.state == State.PENDING.value).limit(most)
    if row.kind == BUCKET:
        return mine
    unindexed = func.coalesce(changes.c.import_id, "")  # or the index by import would read all that the source has sent
    return mine.where(unindexed.in_(_imports_of(tx, row)))


def _imports_of(tx: Connection, row: Row[Any]) -> tuple[str, ...]:
    """Return the imports of an origin: one, or all runs of an event source."""
    if row.kind == IMPORT:
        return (row.import_id,)
    kind, _, name = row.origin.partition(":")
    runs = (
        imports.c.kind == kind,
        or_(imports.c.name == name, imports.c.name.startswith(f"{name}, as ", autoescape=True)),
    )
    return tuple(tx.execute(select(imports.c.id).where(*runs)).scalars())


_ANY_HELD = select(customer_tasks.c.target_id).where(is_held).limit(1)


def held_by_fuses(tx: Connection, import_id: str, by_guards: int) -> dict[str, int]:
    """Return how many changes of an import are held beside those that guards hold: their customers wait for a fuse."""
    fused = 0
    if tx.execute(_ANY_HELD).first() is not None:
        held = changes.join(customer_tasks, customer_tasks.c.target_id == changes.c.target_id)
        mine = (changes.c.import_id == import_id, changes.c.state == State.PENDING.value, is_held)
        fused = tx.execute(select(func.count()).select_from(held).where(*mine)).scalar_one()
    return {"fused": fused, State.HELD.value: by_guards + fused}
