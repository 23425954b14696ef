"""Taking due customer tasks under lease: exclusive, most urgent lane first, then earliest deadline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Connection,
    Integer,
    Select,
    bindparam,
    delete,
    func,
    literal_column,
    or_,
    select,
    update,
)

from consent.change import Action, Bucket, Lane
from consent.ledger.database import LedgerPart
from consent.ledger.dialects.statements import Bulk, UpdateEach, among, among_given, bulk, plain_rows
from consent.ledger.queue.enqueue import hold_what_is_withheld, withhold_optins
from consent.ledger.queue.in_doubt import Doubt, calls_in_doubt, forget_doubts, mark_in_doubt, set_in_doubt_aside
from consent.ledger.queue.overlaps import Overlap, resolve_overlaps
from consent.ledger.queue.probe import pick_another
from consent.ledger.queue.tasks import IN_DOUBT, ClaimedChange, CustomerTask
from consent.ledger.review.fuse_counts import Stops, stops_of
from consent.ledger.review.pauses import ALL_LANES, OPTOUT_LANES, pauses
from consent.ledger.schema import changes, customer_tasks, is_due, is_put_off, slots, targets
from consent.outcome import State

_PASSES = 20
"""How often a claim looks on where all that it took is paused, or held by a fuse."""

_LOOKED_AT = 500
"""How many further tasks are looked at then: of a million that a fuse holds, each claim sets some thousands aside."""


class Claims(LedgerPart):
    """Customer tasks to be delivered, and those that are under lease."""

    def due(self, bucket: Bucket, limit: int) -> int:
        """Return how many targets of a bucket are due and not paused, counting no further than `limit`."""
        now = self.core.now()

        def work(tx: Connection) -> int:
            if not (lanes := open_lanes(tx, bucket)):
                return 0
            asked = bucket._asdict() | {"last_lane": max(lanes), "most": limit, "now": now}
            return sum(tx.execute(_COUNT_DUE, asked).one())

        return min(limit, self.database.read(work))

    def left(self, bucket: Bucket, limit: int) -> int:
        """Return how many targets of a bucket have something to deliver, due or not; count no further than `limit`."""
        asked = bucket._asdict() | {"most": limit}
        return min(limit, self.database.read(lambda tx: sum(tx.execute(_COUNT_LEFT, asked).one())))

    def claim(  # noqa: PLR0913 - what a worker wants, and what it knows of the bucket
        self,
        bucket: Bucket,
        limit: int,
        token: str,
        lease_seconds: float,
        in_doubt_seconds: float = 0.0,
        *,
        overlap: Overlap | None = None,
        suspects: tuple[int, ...] | None = None,
    ) -> list[CustomerTask]:
        """Take up to `limit` due targets of a bucket under a lease; return their newest changes.

        A worker that holds the token at the lease's end has lost it. What the provider holds for these slots counts as
        unknown from here on, whatever happens next. A target whose lease ran out before anything was settled is left
        alone for `in_doubt_seconds` more: a call of the delivery that held it may still be under way. So is one with
        anything else to send than a call that is in doubt (`Settlement.in_doubt_until`).

        With `overlap`, what the bucket's provider says of slots that overlap, the changes of a target's slots are
        compared with each other first, and then what the provider holds in any of them counts as unknown. With
        `suspects` it is a probe, to find out how a bucket is: one target, and another one than these if there is any.

        Nothing is taken of what is paused. Of a target with opt-outs its opt-ins are withheld while these are.
        """
        now = self.core.now()
        lease_until, in_doubt_until = now + int(lease_seconds * 1_000_000), now + int(in_doubt_seconds * 1_000_000)

        def work(tx: Connection) -> list[CustomerTask]:
            if not (lanes := open_lanes(tx, bucket)):
                return []
            _promote(tx, bucket, now, in_doubt_until)
            stops = stops_of(tx, bucket)
            # A pause that ends has what it held looked at, behind this lock: so none that has ended may count here.
            lanes = lanes if stops is None else open_lanes(tx, bucket)
            for _ in range(_PASSES):
                pick = (
                    _pick(tx, bucket, limit, lanes) if suspects is None else pick_another(tx, bucket, suspects, lanes)
                )
                if not pick:
                    break
                tx.execute(_LEASE, {"numbers": pick, "token": token, "until": lease_until})
                tasks, held, doubts = _load_unheld(tx, stops, pick)
                tasks, in_doubt = set_in_doubt_aside(tx, tasks, doubts, now) if doubts else (tasks, [])
                if overlap is not None:
                    tasks, claimed = resolve_overlaps(tx, tasks, overlap, now), tasks
                    held = [*held, *hold_what_is_withheld(tx, claimed, tasks)]
                _drop_empty(tx, pick, tasks, [*held, *in_doubt])
                tasks = tasks if lanes == ALL_LANES else withhold_optins(tx, tasks, now)
                if tasks or (lanes == ALL_LANES and not held and not in_doubt):
                    _forget_confirmed(tx, tasks)
                    return tasks
                if held:
                    _load_unheld(tx, stops, _pick(tx, bucket, _LOOKED_AT, lanes))
            return []

        return self.database.write(work)

    def forget_doubts(self) -> int:
        """Delete the calls that cannot be under way any more; return how many."""
        now = self.core.now()
        return self.database.write(lambda tx: forget_doubts(tx, now))

    def customer(self, target_id: int) -> CustomerTask | None:
        """Return a target as a task with nothing to deliver, None if it is gone."""
        query = select(targets.c.address).where(targets.c.id == target_id)
        address = self.database.read(lambda tx: tx.execute(query).scalar())
        return None if address is None else CustomerTask(target_id, orjson.loads(address), ())


def open_lanes(tx: Connection, bucket: Bucket) -> tuple[Lane, ...]:
    """Return the lanes of a bucket that are not paused: all, those of opt-outs, or none."""
    found = tx.execute(_PAUSED, {"whose": bucket.connection, "name": bucket.name}).scalars().all()
    if not found:
        return ALL_LANES
    return OPTOUT_LANES if all(found) else ()


_PAUSED = select(pauses.c.only_optins).where(
    pauses.c.connection == bindparam("whose"), or_(pauses.c.every_bucket == 1, pauses.c.bucket == bindparam("name"))
)
"""Made once: each claim asks it."""


def _promote(tx: Connection, bucket: Bucket, now: int, in_doubt_until: int) -> None:
    """Enqueue what was put off until now. What a lost delivery held is left alone until then, if that is later."""
    ripe = plain_rows(tx.execute(_RIPE, bucket._asdict() | {"now": now}))
    lost = [whose for whose, holder in ripe if holder not in (None, IN_DOUBT)] if in_doubt_until > now else []
    if lost:
        mark_in_doubt(tx, lost, in_doubt_until)
    left_alone = set(lost)
    if due := [whose for whose, _ in ripe if whose not in left_alone]:
        tx.execute(_ENQUEUE, {"numbers": due})


def _pick(tx: Connection, bucket: Bucket, limit: int, lanes: Sequence[Lane]) -> list[int]:
    asked = bucket._asdict() | {"last_lane": max(lanes, default=-1), "most": limit}
    return [whose for (whose,) in plain_rows(tx.execute(_PICK, asked))]


def _load_unheld(
    tx: Connection, stops: Stops | None, numbers: Sequence[int]
) -> tuple[list[CustomerTask], list[int], dict[int, Doubt]]:
    """Return the tasks of these targets, without what fuses hold, the targets of which they hold everything, doubts."""
    tasks, doubts = _load(tx, numbers)
    return (tasks, [], doubts) if stops is None else (*stops.set_aside(tx, tasks), doubts)


def _load(tx: Connection, numbers: Sequence[int]) -> tuple[list[CustomerTask], dict[int, Doubt]]:
    """Return the tasks of these targets that have something to deliver, and the doubts about calls to any of them."""
    given = {"numbers": numbers}
    claimed: dict[int, list[ClaimedChange]] = defaultdict(list)
    details: dict[str, dict[str, Any]] = {}
    newest = plain_rows(tx.execute(_newest_pending(type(bulk(tx))), given))
    for whose, number, import_id, slot, action, since, text, tried, value in newest:
        if (more := details.get(text)) is None:
            more = details[text] = orjson.loads(text)
        claimed[whose].append(ClaimedChange(number, import_id, slot, _ACTIONS[action], since, more, tried, value))
    facts = {whose: its for whose, *its in plain_rows(tx.execute(_OF_TARGETS, given))}
    tasks = [
        CustomerTask(whose, orjson.loads(facts[whose][0]), tuple(claimed[whose]), facts[whose][1])
        for whose in numbers
        if whose in claimed
    ]
    return tasks, {whose: (until, ids) for whose, (_, _, until, ids) in facts.items() if until is not None}


_ACTIONS = {action.value: action for action in Action}


def _forget_confirmed(tx: Connection, tasks: Sequence[CustomerTask]) -> None:
    """Call unknown what the provider holds in the slots that it is about to be told of, or that this may change."""
    confirmed = plain_rows(tx.execute(_CONFIRMED, {"numbers": [task.target_id for task in tasks]}))
    by_target = {task.target_id: task for task in tasks} if confirmed else {}
    forgotten = [
        {"whose": whose, "which": slot}
        for whose, slot, holds in confirmed
        if _may_change(by_target[whose], slot, is_out=holds.startswith(Action.OPTOUT.value))
    ]
    bulk(tx).update_each(_FORGET_CONFIRMED, forgotten)


def _may_change(task: CustomerTask, slot: str, *, is_out: bool) -> bool:
    """Whether a slot is one of those that are sent, or may be changed by these.

    Opt-outs change nothing in other slots that are opted out: else of wide and narrow ones, each would be sent again
    whenever the other has been.
    """
    if any(change.slot == slot for change in task.changes):
        return True
    return slot in task.newest_by_slot and not (is_out and all(one.action is Action.OPTOUT for one in task.changes))


def _drop_empty(tx: Connection, numbers: Sequence[int], tasks: Sequence[CustomerTask], held: Sequence[int]) -> None:
    """Forget tasks with nothing left to deliver, not even held: a newer change was confirmed already."""
    full = {*held, *(task.target_id for task in tasks)}
    if empty := [whose for whose in numbers if whose not in full]:
        tx.execute(delete(customer_tasks).where(among(customer_tasks.c.target_id, empty)))


_FORGET_CONFIRMED = UpdateEach(
    table="slots",
    types={"whose": "bigint", "which": "text"},
    values="confirmed = NULL, confirmed_at = NULL",
    where="target_id = {whose} AND slot = {which}",
)
_OF_BUCKET = (customer_tasks.c.connection == bindparam("connection"), customer_tasks.c.bucket == bindparam("name"))
"""That a customer task belongs to the bucket whose fields are given when the statement is executed."""

_IS_RIPE = (is_put_off, *_OF_BUCKET, customer_tasks.c.next_at <= bindparam("now", type_=BigInteger()))
"""That a customer task of such a bucket was put off until a moment that has come."""

_PROMOTED_AT_ONCE = 2_000
_RIPE = (
    select(customer_tasks.c.target_id, customer_tasks.c.lease_token)
    .where(*_IS_RIPE)
    .order_by(customer_tasks.c.next_at)
    .limit(_PROMOTED_AT_ONCE)
    .with_for_update(skip_locked=True)
)
_WHOSE, _MOST = customer_tasks.c.target_id, bindparam("most", type_=Integer)
_IS_OPEN = (is_due, *_OF_BUCKET, customer_tasks.c.lane <= bindparam("last_lane"))
_URGENT = (customer_tasks.c.lane, customer_tasks.c.deadline)  # the order of the index, so that it is used
_PICK = select(_WHOSE).where(*_IS_OPEN).order_by(*_URGENT).limit(_MOST).with_for_update(skip_locked=True)
_ENQUEUE = update(customer_tasks).where(among_given(_WHOSE, "numbers")).values(waiting=1, lease_token=None)
_LEASE = (
    update(customer_tasks)
    .where(among_given(_WHOSE, "numbers"))
    .values(waiting=0, resend=0, lease_token=bindparam("token"), next_at=bindparam("until"))
)
_CONFIRMED = select(slots.c.target_id, slots.c.slot, slots.c.confirmed).where(
    among_given(slots.c.target_id, "numbers"), slots.c.confirmed.is_not(None)
)
_OF_TARGETS = (
    select(
        *(targets.c.id, targets.c.address, customer_tasks.c.tries, calls_in_doubt.c.until, calls_in_doubt.c.change_ids)
    )
    .join(customer_tasks, targets.c.id == _WHOSE)
    .outerjoin(calls_in_doubt, calls_in_doubt.c.target_id == targets.c.id)
    .where(among_given(targets.c.id, "numbers"))
)


def _number_of(*parts: Select[Any]) -> Select[Any]:
    """Return a query that counts what each of these finds, no further than `most`."""
    counted = (select(func.count()).select_from(part.limit(_MOST).subquery()).scalar_subquery() for part in parts)
    return select(*counted)


_ONE: Select[Any] = select(literal_column("1")).select_from(customer_tasks)
_COUNT_DUE = _number_of(_ONE.where(*_IS_OPEN).order_by(*_URGENT), _ONE.where(*_IS_RIPE))
_COUNT_LEFT = _number_of(_ONE.where(is_due, *_OF_BUCKET), _ONE.where(is_put_off, *_OF_BUCKET))


@cache
def _newest_pending(kind: type[Bulk]) -> Select[Any]:
    """Return a query for the changes that are to be delivered to some targets, the oldest first."""
    newest = select(slots.c.newest_id).where(among_given(slots.c.target_id, "numbers"))
    facts = (
        *(changes.c.target_id, changes.c.id, changes.c.import_id, changes.c.slot, changes.c.action),
        *(changes.c.effective_at, changes.c.details, changes.c.attempts, changes.c.value),
    )
    pending = (kind.among_found(changes.c.id, newest), changes.c.state == State.PENDING.value)
    return select(*facts).where(*pending).order_by(changes.c.effective_at, changes.c.id)
