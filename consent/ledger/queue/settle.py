"""Writing down what became of claimed changes, under the token of their lease.

A delivery whose lease was lost may have reached the provider after a newer change did. So its settlement counts for
nothing but its attempts, and the target's newest changes are delivered again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, select, update

from consent.ledger.database import LedgerPart
from consent.ledger.dialects.locks import MergeLock
from consent.ledger.dialects.statements import (
    NEW,
    UpdateEach,
    among,
    among_given,
    as_whole,
    bulk,
    plain_rows,
    portions,
)
from consent.ledger.queue.enqueue import enqueue, return_tasks
from consent.ledger.queue.in_doubt import note_in_doubt
from consent.ledger.queue.outcome_log import note_calls, note_dead, note_settled, note_state, still_pending
from consent.ledger.queue.tasks import ClaimedChange, Settlement
from consent.ledger.review.fuse_counts import FuseCounter, count_failures
from consent.ledger.schema import attempts, changes, customer_tasks, dead_letters, slots
from consent.outcome import Applied, PermanentFailure, Retry, State, Unchanged

_ATTEMPT_COLUMNS = ("target_id", "at", "milliseconds", "purpose", "status", "code", "change_ids")


class Settlements(LedgerPart):
    """What became of claimed changes."""

    def settle(self, token: str, settlements: Sequence[Settlement], fuse: FuseCounter | None = None) -> int:
        """Write down a group of settlements in one transaction; return how many leases had been lost meanwhile.

        With a `fuse`, failures are counted, and the rest of what they came from is held once these are too many. The
        calls made are to be added by `count_calls` afterwards: on PostgreSQL they are not part of the transaction.
        """
        if not settlements:
            return 0
        now = self.core.now()

        def work(tx: Connection, *, alone: bool) -> int | None:
            lock = MergeLock.acquire(tx) if alone else None
            held, connection = _held(tx, token, settlements)
            kept = [one for one in settlements if one.task.target_id in held]
            sure = [one for one in kept if not held[one.task.target_id]]
            lost = [one for one in settlements if one.task.target_id not in held]
            called = [one for one in lost if one.attempts]
            if called and lock is None:
                return None
            _write_attempts(tx, settlements)
            settled = _write_outcomes(tx, sure, connection, now)
            return_tasks(tx, kept, settled, now)
            if lock is not None and called:
                _resend_newest(lock, called, now)
            _note_in_doubt(tx, settlements, now)
            if self.database.is_sqlite:
                bulk(tx).update_each(_CALLS, _calls(settlements))
            if fuse is not None:
                count_failures(tx, fuse, sure, now)
            return len(lost)

        # What is being merged must not be revived or become due meanwhile: the MergeLock comes before all other locks.
        if (lost := self.database.write(partial(work, alone=False))) is None:
            lost = self.database.write(partial(work, alone=True)) or 0
        return lost

    def count_calls(self, settlements: Sequence[Settlement], counted: set[str]) -> None:
        """Add the calls made to their imports, where that is not part of settling.

        Each import in a transaction of its own: an importer locks this row first and customer tasks afterwards.
        `counted` remembers those that are done, so that this may be tried again when it failed half way.
        """
        if self.database.is_sqlite:
            return

        def work(tx: Connection, row: dict[str, Any]) -> None:
            bulk(tx).update_each(_CALLS, [row])

        for row in _calls(settlements):
            if row["which"] not in counted:
                self.database.write(partial(work, row=row))
                counted.add(row["which"])


def _held(tx: Connection, token: str, settlements: Sequence[Settlement]) -> tuple[dict[int, bool], str]:
    """Return the targets still under this lease, with whether a late call may have overwritten each meanwhile.

    The other value is the connection, which is the same of all that are under one lease.
    """
    numbers = [one.task.target_id for one in settlements]
    rows = plain_rows(tx.execute(_HELD, {"numbers": numbers, "token": token}))
    return {whose: bool(again) for whose, again, _ in rows}, rows[0][2] if rows else ""


_HELD = (
    select(customer_tasks.c.target_id, customer_tasks.c.resend, customer_tasks.c.connection)
    .where(among_given(customer_tasks.c.target_id, "numbers"), customer_tasks.c.lease_token == bindparam("token"))
    .order_by(customer_tasks.c.target_id)
    .with_for_update()
)


def _write_attempts(tx: Connection, settlements: Iterable[Settlement]) -> None:
    made = [attempt for one in settlements for attempt in one.attempts]
    rows = [
        (a.target_id, a.at, a.milliseconds, a.purpose, a.status, a.code, orjson.dumps(a.change_ids).decode())
        for a in made
    ]
    bulk(tx).insert(attempts, _ATTEMPT_COLUMNS, rows)
    note_calls(tx, settlements)


def _write_outcomes(tx: Connection, settlements: Sequence[Settlement], connection: str, now: int) -> set[int]:
    """Write down what became of each change; return those that are settled for good."""
    settled: dict[State, list[int]] = {State.APPLIED: [], State.UNCHANGED: []}
    applied, unchanged = settled.values()
    dead: list[dict[str, Any]] = []
    later: list[dict[str, Any]] = []
    confirmed: list[dict[str, Any]] = []
    for one in settlements:
        taken: list[ClaimedChange] = []
        for change in one.task.changes:
            match one.outcomes.get(change.id):
                case Applied():
                    applied.append(change.id)
                    taken.append(change)
                case Unchanged():
                    unchanged.append(change.id)
                    taken.append(change)
                case PermanentFailure(code, reason):
                    dead.append({"which": change.id, "code": code, "reason": reason, "now": now})
                case Retry(code, reason, counts):
                    later.append({"which": change.id, "code": code, "reason": reason, "more": int(counts)})
                case None:
                    pass
        confirmed += _confirmed(one, taken, now)
    _close(tx, settled, connection, now)
    _bury(tx, dead, now)
    bulk(tx).update_each(_PUT_OFF, later)
    bulk(tx).update_each(_CONFIRM, sorted(confirmed, key=itemgetter("whose", "which")))
    return {*applied, *unchanged, *(row["which"] for row in dead)}


def _close(tx: Connection, settled: Mapping[State, Sequence[int]], connection: str, now: int) -> None:
    """Settle those that are pending, and note which these were: newer changes may have superseded others meanwhile."""
    for state, ids in settled.items():
        if ids:
            rows = plain_rows(tx.execute(_CLOSE, {"numbers": ids, "became": state.value, "now": now}))
            note_settled(tx, state, connection, rows, now)


_CLOSE = as_whole(
    update(changes)
    .where(among_given(changes.c.id, "numbers"), changes.c.state == State.PENDING.value)
    .values(state=bindparam("became"), settled_at=bindparam("now"), attempts=changes.c.attempts + 1)
    .values(code=None, reason=None)
    .returning(changes.c.id, changes.c.due_at, changes.c.rule, changes.c.effective_at, changes.c.recorded_at)
)


def _bury(tx: Connection, dead: Sequence[dict[str, Any]], now: int) -> None:
    """Make dead letters of those that are pending."""
    if not dead:
        return
    pending = still_pending(tx, [row["which"] for row in dead])
    bulk(tx).update_each(_BURY, dead)
    bulk(tx).insert(dead_letters, ("change_id",), [(row["which"],) for row in dead], NEW)
    note_dead(tx, sorted(pending), now)


def _note_in_doubt(tx: Connection, settlements: Sequence[Settlement], now: int) -> None:
    if in_doubt := [one for one in settlements if one.in_doubt_until > now]:
        note_in_doubt(tx, in_doubt)


def _confirmed(one: Settlement, taken: Sequence[ClaimedChange], now: int) -> list[dict[str, Any]]:
    """Say what is confirmed, and when: as the last call for it began, for what came meanwhile it cannot know."""
    began: dict[int, int] = {}
    for made in one.attempts:
        for number in made.change_ids:
            began[number] = max(made.at, began.get(number, made.at))
    whose = one.task.target_id
    return [
        {
            "whose": whose,
            "which": change.slot,
            "what": change.action + change.value,
            "since": min(began.get(change.id, now), now),
        }
        for change in taken
        if change.confirms
    ]


_CONFIRM = UpdateEach(
    table="slots",
    types={"whose": "bigint", "which": "text", "what": "text", "since": "bigint"},
    values="confirmed = {what}, confirmed_at = {since}",
    where="target_id = {whose} AND slot = {which}",
)
_PENDING = f"id = {{which}} AND state = '{State.PENDING.value}'"
_BURY = UpdateEach(
    table="changes",
    types={"which": "bigint", "code": "text", "reason": "text", "now": "bigint"},
    values=f"state = '{State.DEAD.value}', code = {{code}}, reason = {{reason}}, settled_at = {{now}}, "
    "attempts = attempts + 1",
    where=_PENDING,
)
_PUT_OFF = UpdateEach(
    table="changes",
    types={"which": "bigint", "code": "text", "reason": "text", "more": "int"},
    values="code = {code}, reason = {reason}, attempts = attempts + {more}",
    where=_PENDING,
)


def _resend_newest(lock: MergeLock, called: Sequence[Settlement], now: int) -> None:
    """Deliver the newest changes of these slots once more: a late call may have left an older one at the provider."""
    tx = lock.tx
    numbers = sorted(one.task.target_id for one in called)
    held = select(customer_tasks.c.target_id).where(among(customer_tasks.c.target_id, numbers))
    tx.execute(held.order_by(customer_tasks.c.target_id).with_for_update())
    touched = [(one.task.target_id, slot) for one in called for slot in _touched(tx, one)]
    pending: dict[int, int] = {}
    again: list[int] = []
    for whose, slot in sorted(touched):
        where = (slots.c.target_id == whose, slots.c.slot == slot)
        tx.execute(update(slots).where(*where).values(confirmed=None, confirmed_at=None))
        newest = select(slots.c.newest_id).where(*where).scalar_subquery()
        revived = (changes.c.id == newest, changes.c.state.in_((State.APPLIED.value, State.UNCHANGED.value)))
        revival = update(changes).where(*revived).values(state=State.PENDING.value, settled_at=None)
        again += tx.execute(revival.returning(changes.c.id)).scalars()
        waits = (changes.c.id == newest, changes.c.state == State.PENDING.value)
        pending.update((number, whose) for number in tx.execute(select(changes.c.id).where(*waits)).scalars())
    note_state(tx, State.PENDING, again, now)
    enqueue(lock, list(pending), now=now)
    under_lease = update(customer_tasks).where(customer_tasks.c.lease_token.is_not(None))
    for some in portions(list(pending.values())):
        tx.execute(under_lease.where(among(customer_tasks.c.target_id, some)).values(resend=1))


def _touched(tx: Connection, one: Settlement) -> set[str]:
    """Return the slots that a late call may have touched: where it may be any, also those that came since."""
    if not one.task.newest_by_slot:
        return one.task.touched
    return set(tx.execute(select(slots.c.slot).where(slots.c.target_id == one.task.target_id)).scalars())


def _calls(settlements: Sequence[Settlement]) -> list[dict[str, Any]]:
    calls: defaultdict[str, int] = defaultdict(int)
    for one in settlements:
        imported = {change.id: change.import_id for change in one.task.changes}
        for attempt in one.attempts:
            if attempt.counts:
                for import_id in {imported[number] for number in attempt.change_ids if number in imported}:
                    calls[import_id] += 1
    return [{"which": import_id, "more": more} for import_id, more in sorted(calls.items())]


_CALLS = UpdateEach("imports", {"which": "text", "more": "bigint"}, "calls = calls + {more}", "id = {which}")
