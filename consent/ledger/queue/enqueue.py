"""Making customer tasks (this target has changes to deliver, this urgent, before then), and giving them back.

A task whose changes have been settled is done, due again, or put off.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    delete,
    false,
    func,
    literal,
    select,
    update,
)

from consent.change import Action, Bucket, Lane, Origin, lane_of
from consent.deadlines.rules import NO_RULE
from consent.ledger.dialects.locks import MergeLock
from consent.ledger.dialects.statements import (
    UpdateEach,
    Upsert,
    among_given,
    bulk,
    plain_rows,
)
from consent.ledger.queue.tasks import IN_DOUBT, CustomerTask, Settlement
from consent.ledger.schema import changes, customer_tasks, is_due, slots, targets
from consent.outcome import State

_IN_LINE = 48 * 3_600_000_000
"""What has no deadline, such as an opt-in, stands in line as if it had one so long after its receipt."""

_LAST_OF_OPTOUTS = int(Lane.BULK_OPTOUT)

lane_term: ColumnElement[int] = case(
    *(
        ((changes.c.action == action.value) & (changes.c.origin == origin.value), int(lane_of(action, origin)))
        for action in Action
        for origin in Origin
    )
)
"""The lane of a change, as a term about `changes`."""

deadline_term: ColumnElement[int] = func.coalesce(changes.c.due_at, changes.c.recorded_at + _IN_LINE)
"""By when a change should be delivered; opt-ins in the order of their receipt."""

rule_term: ColumnElement[str] = func.coalesce(changes.c.rule, NO_RULE)
"""The rule of a change's deadline."""


def enqueue(lock: MergeLock, numbers: Sequence[int], *, now: int, untried: bool = False) -> None:
    """Make, or make more urgent, the customer tasks of the pending ones of these changes; `untried`: without a code.

    They are due at once, unless under lease. Customer tasks that are due and as urgent already are not touched, only
    seen: so the changes must have been committed before, or else the customer tasks of their targets be locked.
    """
    given = {"numbers": numbers, "now": now}
    bulk(lock.tx).insert_or_update(_MAKE_UNTRIED if untried else _MAKE, given)


_NOW = bindparam("now", type_=BigInteger())
_MEANT = (among_given(changes.c.id, "numbers"), changes.c.state == State.PENDING.value)


def _tasks(*which: ColumnElement[bool]) -> Select[Any]:
    """Find the tasks of the pending ones of the changes that are given."""
    # A value, asked for by number alone: NOT EXISTS, or an index of those who are due, PostgreSQL may begin with.
    as_urgent = and_(is_due, customer_tasks.c.lane <= lane_term, customer_tasks.c.deadline <= deadline_term)
    due = select(as_urgent).where(customer_tasks.c.target_id == changes.c.target_id).scalar_subquery()
    whose, first = changes.c.target_id, (lane_term > _LAST_OF_OPTOUTS, deadline_term, changes.c.id)
    each = (
        select(
            whose,
            func.min(lane_term).over(partition_by=whose).label("lane"),
            deadline_term.label("deadline"),
            rule_term.label("rule"),
            func.row_number().over(partition_by=whose, order_by=first).label("place"),
        )
        .where(*_MEANT, *which, ~func.coalesce(due, false()))
        .subquery()
    )
    urgency = (each.c.lane, each.c.deadline, each.c.rule)
    tasks = select(each.c.target_id, targets.c.connection, targets.c.bucket, *urgency, literal(1), _NOW, _NOW)
    tasks = tasks.join(targets, targets.c.id == each.c.target_id)
    return tasks.where(each.c.place == 1).order_by(each.c.target_id)


def _task_of_each(*which: ColumnElement[bool]) -> Select[Any]:
    """Find a task for each of them, the first change first: added one after the other, they come to the same.

    What is due and as urgent need not be left out, for adding it changes nothing.
    """
    urgency = (lane_term, deadline_term, rule_term)
    each = select(changes.c.target_id, targets.c.connection, targets.c.bucket, *urgency, literal(1), _NOW, _NOW)
    each = each.join(targets, targets.c.id == changes.c.target_id)
    return each.where(*_MEANT, *which).order_by(changes.c.id)


_FREE = "customer_tasks.lease_token IS NULL"
_BOTH_OUT = f"(excluded.lane <= {_LAST_OF_OPTOUTS}) = (customer_tasks.lane <= {_LAST_OF_OPTOUTS})"
_SOONER = (
    f"(excluded.lane <= {_LAST_OF_OPTOUTS} AND customer_tasks.lane > {_LAST_OF_OPTOUTS} "
    f"OR {_BOTH_OUT} AND excluded.deadline < customer_tasks.deadline)"
)
"""That the new deadline counts: the first one of opt-outs, or if there are none, of opt-ins."""

_MAKE = Upsert(
    customer_tasks,
    ("target_id", "connection", "bucket", "lane", "deadline", "rule", "waiting", "next_at", "enqueued_at"),
    _tasks(),
    _task_of_each(),
    values={
        "lane": "CASE WHEN excluded.lane < customer_tasks.lane THEN excluded.lane ELSE customer_tasks.lane END",
        "deadline": f"CASE WHEN {_SOONER} THEN excluded.deadline ELSE customer_tasks.deadline END",
        "rule": f"CASE WHEN {_SOONER} THEN excluded.rule ELSE customer_tasks.rule END",
        "waiting": f"CASE WHEN {_FREE} THEN 1 ELSE customer_tasks.waiting END",
        "next_at": f"CASE WHEN {_FREE} THEN excluded.next_at ELSE customer_tasks.next_at END",
    },
    where=f"excluded.lane < customer_tasks.lane OR {_SOONER} OR customer_tasks.waiting <> 1 AND {_FREE}",
)
_UNTRIED = changes.c.code.is_(None)
_MAKE_UNTRIED = replace(_MAKE, source=_tasks(_UNTRIED), parts=_task_of_each(_UNTRIED))


def of_bucket(bucket: Bucket) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Say that a customer task belongs to a bucket."""
    return customer_tasks.c.connection == bucket.connection, customer_tasks.c.bucket == bucket.name


def within(lanes: Sequence[Lane]) -> tuple[ColumnElement[bool], ...]:
    """Say that a customer task is in one of these lanes, the first ones of all; nothing is asked if these are all."""
    return () if len(lanes) == len(Lane) else (customer_tasks.c.lane <= max(lanes, default=-1),)


_GIVEN = among_given(customer_tasks.c.target_id, "numbers")


def return_tasks(tx: Connection, settlements: Sequence[Settlement], settled: set[int], now: int) -> None:
    """Give back the leases: a task with nothing left is done, one with a fresh change is due, others wait."""
    left = left_of(tx, [one.task.target_id for one in settlements], settled)
    if done := [one.task.target_id for one in settlements if one.task.target_id not in left]:
        tx.execute(_DONE, {"numbers": done})
    given_back = [_given_back(one, left[one.task.target_id], now) for one in settlements if one.task.target_id in left]
    bulk(tx).update_each(_GIVE_BACK, given_back)


_DONE = delete(customer_tasks).where(_GIVEN)


def withhold_optins(tx: Connection, tasks: Sequence[CustomerTask], now: int) -> list[CustomerTask]:
    """Return the tasks that have opt-outs, with these alone; give back the others, in the lanes of their opt-ins.

    A task stays in the lane of an opt-out that a newer opt-in has superseded. One whose opt-outs a fuse holds would be
    claimed again and again, and others would never be: it is kept from it until the fuse is reset or the pause ends.
    """
    kept, others = [], []
    for task in tasks:
        outs = tuple(change for change in task.changes if change.action is Action.OPTOUT)
        withheld = frozenset(change.id for change in task.changes if change.action is Action.OPTIN)
        if outs:
            kept.append(replace(task, changes=outs, withheld=task.withheld | withheld))
        else:
            others.append(Settlement(task, {}, tried=False))
    left = left_of(tx, [one.task.target_id for one in others if one.task.withheld], set())
    stuck = {whose for whose, its in left.items() if min(lane for _, lane, *_ in its) <= Lane.BULK_OPTOUT}
    hold(tx, sorted(stuck))
    if free := [one for one in others if one.task.target_id not in stuck]:
        return_tasks(tx, free, set(), now)
    return kept


def hold_what_is_withheld(tx: Connection, tasks: Sequence[CustomerTask], sent: Sequence[CustomerTask]) -> list[int]:
    """Hold those of these tasks of which nothing is left to send but what is withheld; return their targets."""
    full = {task.target_id for task in sent}
    held = [task.target_id for task in tasks if task.withheld and task.target_id not in full]
    hold(tx, held)
    return held


def hold(tx: Connection, numbers: Sequence[int]) -> None:
    """Keep these tasks, whose rows must be locked, from being claimed until a fuse is reset or a pause ends."""
    if numbers:
        tx.execute(_HOLD, {"numbers": numbers})


_HOLD = update(customer_tasks).where(_GIVEN).values(waiting=2, lease_token=None)


_Left = tuple[int, int, int, str]
"""A change that is still to be delivered: its number, lane, deadline, and the rule of this."""


def left_of(tx: Connection, numbers: Sequence[int], settled: set[int]) -> dict[int, list[_Left]]:
    """Return what is still to be delivered to these targets, and how urgent it is; mostly that is nothing."""
    left: dict[int, list[_Left]] = defaultdict(list)
    newest = plain_rows(tx.execute(_NEWEST, {"numbers": numbers})) if numbers else ()
    if found := [number for (number,) in newest if number not in settled]:
        for whose, *change in plain_rows(tx.execute(_PENDING, {"numbers": found})):
            left[whose].append((change[0], change[1], change[2], change[3]))
    return left


_NEWEST = select(slots.c.newest_id).where(among_given(slots.c.target_id, "numbers"))
_PENDING = select(changes.c.target_id, changes.c.id, lane_term, deadline_term, rule_term).where(
    among_given(changes.c.id, "numbers"), changes.c.state == State.PENDING.value
)


def _given_back(one: Settlement, left: Sequence[_Left], now: int) -> dict[str, Any]:
    claimed = {change.id for change in one.task.changes} | one.task.withheld
    fresh = any(change_id not in claimed for change_id, *_ in left)
    _, deadline, rule = min((lane > Lane.BULK_OPTOUT, deadline, rule) for _, lane, deadline, rule in left)
    in_doubt_until = 0 if one.may_repeat else one.in_doubt_until
    until = max(now if fresh else max(now, one.put_off_until), in_doubt_until)
    return {
        "whose": one.task.target_id,
        "urgency": min(lane for _, lane, *_ in left),
        "due": deadline,
        "by": rule,
        "ready": int(until <= now),
        "until": until,
        "more": int(one.tried),
        "holder": IN_DOUBT if in_doubt_until > now else None,
    }


_GIVE_BACK = UpdateEach(
    table="customer_tasks",
    types={
        "whose": "bigint",
        "urgency": "smallint",
        "due": "bigint",
        "by": "text",
        "ready": "smallint",
        "until": "bigint",
        "more": "int",
        "holder": "text",
    },
    values="lane = {urgency}, deadline = {due}, rule = {by}, waiting = {ready}, next_at = {until}, "
    "tries = tries + {more}, lease_token = {holder}, resend = 0",
    where="target_id = {whose}",
)
