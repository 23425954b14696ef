"""Taking due customer tasks under lease: exclusive, most urgent lane first, then earliest deadline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, Select, delete, func, literal_column, select, update

from consent.change import Action, Bucket, Lane
from consent.ledger.database import LedgerPart
from consent.ledger.dialects.statements import UpdateEach, among, bulk, plain_rows, portions
from consent.ledger.queue.enqueue import hold_what_is_withheld, of_bucket, withhold_optins, within
from consent.ledger.queue.in_doubt import forget_doubts, mark_in_doubt, set_in_doubt_aside
from consent.ledger.queue.overlaps import Overlap, resolve_overlaps
from consent.ledger.queue.probe import pick_another
from consent.ledger.queue.tasks import WITNESS, ClaimedChange, CustomerTask
from consent.ledger.review.fuse_counts import Stops, stops_of
from consent.ledger.review.pauses import ALL_LANES, open_lanes
from consent.ledger.schema import attempts, changes, customer_tasks, is_due, is_put_off, slots, targets
from consent.outcome import State

PROMOTED_AT_ONCE = 2_000
_PASSES = 20
"""How often a claim looks on where all that it took is paused, or held by a fuse."""

_LOOKED_AT = 500
"""How many further tasks are looked at then: of a million that a fuse holds, each claim sets some thousands aside."""


class Try(NamedTuple):
    """An earlier call for a task's changes: when it was made and answered (microseconds), and with which code."""

    at: int
    answered_at: int
    code: str


class Claims(LedgerPart):
    """Customer tasks to be delivered, and those that are under lease."""

    def buckets(self, connection: str) -> list[Bucket]:
        """Return the buckets of a connection that have customer tasks, by one look at the index for each.

        From its end: where customers are claimed, PostgreSQL's indexes hold what is gone until they are cleaned.
        """

        def work(tx: Connection) -> list[Bucket]:
            found: list[Bucket] = []
            for state in (is_due, is_put_off):
                last = None
                while (name := tx.execute(_next_bucket(state, connection, last)).scalar()) is not None:
                    last = name
                    found.append(Bucket(connection, name))
            return sorted(set(found))

        return self.database.read(work)

    def due(self, bucket: Bucket, limit: int) -> int:
        """Return how many targets of a bucket are due and not paused, counting no further than `limit`."""
        now = self.core.now()
        one: Select[Any] = select(literal_column("1")).limit(limit)
        urgent = (customer_tasks.c.lane, customer_tasks.c.deadline)  # the order of the index, so that it is used

        def work(tx: Connection) -> int:
            if not (lanes := open_lanes(tx, bucket)):
                return 0
            is_open = () if lanes == ALL_LANES else within(lanes)
            ready = one.where(is_due, *of_bucket(bucket), *is_open).order_by(*urgent)
            ripe = one.where(is_put_off, *of_bucket(bucket), customer_tasks.c.next_at <= now)
            parts = (ready.subquery(), ripe.subquery())
            return sum(tx.execute(select(func.count()).select_from(part)).scalar_one() for part in parts)

        return min(limit, self.database.read(work))

    def left(self, bucket: Bucket, limit: int) -> int:
        """Return how many targets of a bucket have something to deliver, due or not; count no further than `limit`."""
        parts = [
            select(literal_column("1"))
            .select_from(customer_tasks)
            .where(half, *of_bucket(bucket))
            .limit(limit)
            .subquery()
            for half in (is_due, is_put_off)
        ]

        def work(tx: Connection) -> int:
            return sum(tx.execute(select(func.count()).select_from(part)).scalar_one() for part in parts)

        return min(limit, self.database.read(work))

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
            mark_in_doubt(tx, bucket, now, in_doubt_until)
            promote(tx, bucket, now)
            stops = stops_of(tx, bucket)
            # A pause that ends has what it held looked at, behind this lock: so none that has ended may count here.
            lanes = lanes if stops is None else open_lanes(tx, bucket)
            for _ in range(_PASSES):
                pick = (
                    _pick(tx, bucket, limit, lanes) if suspects is None else pick_another(tx, bucket, suspects, lanes)
                )
                if not pick:
                    break
                leased = update(customer_tasks).where(among(customer_tasks.c.target_id, pick))
                tx.execute(leased.values(waiting=0, resend=0, lease_token=token, next_at=lease_until))
                tasks, held = _load_unheld(tx, stops, pick)
                tasks, in_doubt = set_in_doubt_aside(tx, tasks, now)
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

    def earlier_tries(self, task: CustomerTask) -> list[Try]:
        """Return the calls that were made for a task's changes and are written down, the oldest first."""
        facts = (attempts.c.at, attempts.c.milliseconds, attempts.c.code, attempts.c.change_ids)
        query = select(*facts).where(attempts.c.target_id == task.target_id, attempts.c.purpose != WITNESS)
        asked = {change.id for change in task.changes}
        made = self.database.read(lambda tx: tx.execute(query).all())
        return sorted(
            Try(at, at + milliseconds * 1_000, code)
            for at, milliseconds, code, ids in made
            if asked.intersection(orjson.loads(ids))
        )

    def forget_doubts(self) -> int:
        """Delete the calls that cannot be under way any more; return how many."""
        now = self.core.now()
        return self.database.write(lambda tx: forget_doubts(tx, now))

    def customer(self, target_id: int) -> CustomerTask | None:
        """Return a target as a task with nothing to deliver, None if it is gone."""
        query = select(targets.c.address).where(targets.c.id == target_id)
        address = self.database.read(lambda tx: tx.execute(query).scalar())
        return None if address is None else CustomerTask(target_id, orjson.loads(address), ())


def promote(tx: Connection, bucket: Bucket, now: int) -> int:
    """Enqueue what was put off until now; return how many targets."""
    ripe = (
        select(customer_tasks.c.target_id)
        .where(is_put_off, *of_bucket(bucket), customer_tasks.c.next_at <= now)
        .order_by(customer_tasks.c.next_at)
        .limit(PROMOTED_AT_ONCE)
    )
    numbers = tx.execute(ripe.with_for_update(skip_locked=True)).scalars().all()
    for some in portions(numbers):
        due = update(customer_tasks).where(among(customer_tasks.c.target_id, some))
        tx.execute(due.values(waiting=1, lease_token=None))
    return len(numbers)


def _next_bucket(state: ColumnElement[bool], connection: str, last: str | None) -> Select[str]:
    beyond = () if last is None else (customer_tasks.c.bucket < last,)
    query = select(customer_tasks.c.bucket).where(state, customer_tasks.c.connection == connection, *beyond)
    return query.order_by(customer_tasks.c.bucket.desc()).limit(1)


def _pick(tx: Connection, bucket: Bucket, limit: int, lanes: Sequence[Lane]) -> list[int]:
    numbers: list[int] = []
    for lane in lanes:
        if (wanted := limit - len(numbers)) <= 0:
            break
        query = (
            select(customer_tasks.c.target_id)
            .where(is_due, *of_bucket(bucket), customer_tasks.c.lane == int(lane))
            .order_by(customer_tasks.c.deadline)
            .limit(wanted)
        )
        numbers.extend(tx.execute(query.with_for_update(skip_locked=True)).scalars().all())
    return numbers


def _load_unheld(tx: Connection, stops: Stops | None, numbers: Sequence[int]) -> tuple[list[CustomerTask], list[int]]:
    """Return the tasks of these targets, without what fuses hold, and the targets of which they hold everything."""
    tasks = _load(tx, numbers)
    return (tasks, []) if stops is None else stops.set_aside(tx, tasks)


def _load(tx: Connection, numbers: Sequence[int]) -> list[CustomerTask]:
    """Return the tasks of these targets that have something to deliver."""
    claimed: dict[int, list[ClaimedChange]] = defaultdict(list)
    oldest_first = newest_pending(tx, numbers, _FACTS).order_by(changes.c.effective_at, changes.c.id)
    details: dict[str, dict[str, Any]] = {}
    for whose, number, import_id, slot, action, since, text, tried, value in plain_rows(tx.execute(oldest_first)):
        if text not in details:
            details[text] = orjson.loads(text)
        said = (_ACTIONS[action], since, details[text])
        claimed[whose].append(ClaimedChange(number, import_id, slot, *said, tried, value))
    query = select(targets.c.id, targets.c.address, customer_tasks.c.tries).join(
        customer_tasks, customer_tasks.c.target_id == targets.c.id
    )
    rows = plain_rows(tx.execute(query.where(among(targets.c.id, numbers))))
    found = {whose: (address, tries) for whose, address, tries in rows}
    return [
        CustomerTask(whose, orjson.loads(found[whose][0]), tuple(claimed[whose]), found[whose][1])
        for whose in numbers
        if whose in claimed
    ]


_ACTIONS = {action.value: action for action in Action}
_FACTS = (
    *(changes.c.target_id, changes.c.id, changes.c.import_id, changes.c.slot, changes.c.action),
    *(changes.c.effective_at, changes.c.details, changes.c.attempts, changes.c.value),
)


def _forget_confirmed(tx: Connection, tasks: Sequence[CustomerTask]) -> None:
    """Call unknown what the provider holds in the slots that it is about to be told of, or that this may change.

    Opt-outs change nothing in other slots that are opted out: else of wide and narrow ones, each would be sent again
    whenever the other has been.
    """
    touched = {(task.target_id, slot) for task in tasks for slot in task.touched}
    own = {(task.target_id, change.slot) for task in tasks for change in task.changes}
    opting_in = {task.target_id for task in tasks if any(one.action is Action.OPTIN for one in task.changes)}
    numbers = among(slots.c.target_id, [task.target_id for task in tasks])
    query = select(slots.c.target_id, slots.c.slot, slots.c.confirmed).where(numbers)
    forgotten = [
        {"whose": whose, "which": slot}
        for whose, slot, confirmed in tx.execute(query.where(slots.c.confirmed.is_not(None)))
        if (whose, slot) in own
        or ((whose, slot) in touched and (whose in opting_in or not confirmed.startswith(Action.OPTOUT.value)))
    ]
    bulk(tx).update_each(_FORGET_CONFIRMED, forgotten)


def _drop_empty(
    tx: Connection, numbers: Sequence[int], tasks: Sequence[CustomerTask], held: Sequence[int] = ()
) -> None:
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


def newest_pending(tx: Connection, numbers: Sequence[int], columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
    """Return a query for columns of the changes that are to be delivered to these targets."""
    newest = select(slots.c.newest_id).where(among(slots.c.target_id, numbers))
    among_these = bulk(tx).among_found(changes.c.id, newest)
    return select(*columns).where(among_these, changes.c.state == State.PENDING.value)
