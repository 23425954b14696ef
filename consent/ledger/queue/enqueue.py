"""Making customer tasks: this target has changes to deliver, this urgent, before then."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BigInteger, ColumnElement, and_, case, false, func, literal, select

from consent.change import Action, Bucket, Lane, Origin, lane_of
from consent.deadlines.rules import NO_RULE
from consent.ledger.dialects.locks import MergeLock
from consent.ledger.dialects.statements import Renewal, among, bulk
from consent.ledger.schema import changes, customer_tasks, is_due, targets
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


def enqueue(lock: MergeLock, meant: Sequence[ColumnElement[bool]], *, now: int) -> None:
    """Make, or make more urgent, the customer tasks of the pending ones of the changes that are meant.

    They are due at once, unless under lease. Customer tasks that are due and as urgent already are not touched, only
    seen: so the changes must have been committed before, or else the customer tasks of their targets be locked.
    """
    tx = lock.tx
    # A value, asked for by number alone: NOT EXISTS, or an index of those who are due, PostgreSQL may begin with.
    as_urgent = and_(is_due, customer_tasks.c.lane <= lane_term, customer_tasks.c.deadline <= deadline_term)
    due = select(as_urgent).where(customer_tasks.c.target_id == changes.c.target_id).scalar_subquery()
    whose = (targets.c.id, targets.c.connection, targets.c.bucket)
    first = func.row_number().over(
        partition_by=targets.c.id, order_by=(lane_term > _LAST_OF_OPTOUTS, deadline_term, changes.c.id)
    )
    each = (
        select(
            *whose,
            func.min(lane_term).over(partition_by=targets.c.id).label("lane"),
            deadline_term.label("deadline"),
            rule_term.label("rule"),
            first.label("place"),
        )
        .join(changes, changes.c.target_id == targets.c.id)
        .where(*meant, changes.c.state == State.PENDING.value, ~func.coalesce(due, false()))
        .subquery()
    )
    names = ("id", "connection", "bucket", "lane", "deadline", "rule")
    found = select(*(each.c[name] for name in names), literal(1), _micros(now), _micros(now))
    found = found.where(each.c.place == 1).order_by(each.c.id)
    bulk(tx).insert_or_update_from(customer_tasks, _COLUMNS, found, _RENEWED)


def enqueue_changes(lock: MergeLock, numbers: Sequence[int], *, now: int) -> None:
    """Do the same for the pending ones of these changes."""
    enqueue(lock, (among(changes.c.id, numbers),), now=now)


_COLUMNS = ("target_id", "connection", "bucket", "lane", "deadline", "rule", "waiting", "next_at", "enqueued_at")
_FREE = "customer_tasks.lease_token IS NULL"
_BOTH_OUT = f"(excluded.lane <= {_LAST_OF_OPTOUTS}) = (customer_tasks.lane <= {_LAST_OF_OPTOUTS})"
_SOONER = (
    f"(excluded.lane <= {_LAST_OF_OPTOUTS} AND customer_tasks.lane > {_LAST_OF_OPTOUTS} "
    f"OR {_BOTH_OUT} AND excluded.deadline < customer_tasks.deadline)"
)
"""That the new deadline counts: the first one of opt-outs, or if there are none, of opt-ins."""

_RENEWED = Renewal(
    {
        "lane": "CASE WHEN excluded.lane < customer_tasks.lane THEN excluded.lane ELSE customer_tasks.lane END",
        "deadline": f"CASE WHEN {_SOONER} THEN excluded.deadline ELSE customer_tasks.deadline END",
        "rule": f"CASE WHEN {_SOONER} THEN excluded.rule ELSE customer_tasks.rule END",
        "waiting": f"CASE WHEN {_FREE} THEN 1 ELSE customer_tasks.waiting END",
        "next_at": f"CASE WHEN {_FREE} THEN excluded.next_at ELSE customer_tasks.next_at END",
    },
    where=f"excluded.lane < customer_tasks.lane OR {_SOONER} OR customer_tasks.waiting <> 1 AND {_FREE}",
)


def _micros(moment: int) -> ColumnElement[int]:
    return literal(moment, BigInteger)


def of_bucket(bucket: Bucket) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Say that a customer task belongs to a bucket."""
    return customer_tasks.c.connection == bucket.connection, customer_tasks.c.bucket == bucket.name


def within(lanes: Sequence[Lane]) -> tuple[ColumnElement[bool], ...]:
    """Say that a customer task is in one of these lanes, the first ones of all; nothing is asked if these are all."""
    return () if len(lanes) == len(Lane) else (customer_tasks.c.lane <= max(lanes, default=-1),)
