"""Making customer tasks: this target has changes to deliver, this urgent, before then."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BigInteger, ColumnElement, and_, case, false, func, literal, select

from consent.change import Action, Bucket, Origin, lane_of
from consent.ledger.dialects import dialect_of
from consent.ledger.dialects.locks import MergeLock
from consent.ledger.dialects.statements import Renewal, among, insert_or_update_from
from consent.ledger.schema import changes, customer_tasks, is_due, targets
from consent.outcome import State

HONOUR_WITHIN_SECONDS = 48 * 3600
"""Until when a change should be delivered: bulk senders must honour an unsubscribe within 48 hours.

Source: Google's and Yahoo's sender guidelines of 2024 (laws give more: CAN-SPAM ten business days).
"""


_HONOUR_WITHIN = HONOUR_WITHIN_SECONDS * 1_000_000
_LANES = {(action.value, origin.value): int(lane_of(action, origin)) for action in Action for origin in Origin}


def enqueue(lock: MergeLock, meant: Sequence[ColumnElement[bool]], *, now: int) -> None:
    """Make, or make more urgent, the customer tasks of the pending ones of the changes that are meant.

    They are due at once, unless under lease. Customer tasks that are due and as urgent already are not touched, only
    seen: so the changes must have been committed before, or else the customer tasks of their targets be locked.
    """
    tx = lock.tx
    # A value, asked for by number alone: NOT EXISTS, or an index of those who are due, PostgreSQL may begin with.
    lane, deadline = case(*((_is(a, o), lane) for (a, o), lane in _LANES.items())), _micros(now + _HONOUR_WITHIN)
    as_urgent = and_(is_due, customer_tasks.c.lane <= lane, customer_tasks.c.deadline <= deadline)
    due = select(as_urgent).where(customer_tasks.c.target_id == changes.c.target_id).scalar_subquery()
    found = (
        select(targets.c.id, targets.c.connection, targets.c.bucket, func.min(lane), deadline, literal(1), _micros(now))
        .join(changes, changes.c.target_id == targets.c.id)
        .where(*meant, changes.c.state == State.PENDING.value, ~func.coalesce(due, false()))
        .group_by(targets.c.id)
        .order_by(targets.c.id)
    )
    made = insert_or_update_from(tx, customer_tasks, _COLUMNS, found, _RENEWED)
    dialect_of(tx).notice_growth(tx, customer_tasks, made)


def enqueue_changes(lock: MergeLock, numbers: Sequence[int], *, now: int) -> None:
    """Do the same for the pending ones of these changes."""
    enqueue(lock, (among(lock.tx, changes.c.id, numbers),), now=now)


_COLUMNS = ("target_id", "connection", "bucket", "lane", "deadline", "waiting", "next_at")
_FREE = "customer_tasks.lease_token IS NULL"
_RENEWED = Renewal(
    {
        "lane": "CASE WHEN excluded.lane < customer_tasks.lane THEN excluded.lane ELSE customer_tasks.lane END",
        "deadline": "CASE WHEN excluded.deadline < customer_tasks.deadline "
        "THEN excluded.deadline ELSE customer_tasks.deadline END",
        "waiting": f"CASE WHEN {_FREE} THEN 1 ELSE customer_tasks.waiting END",
        "next_at": f"CASE WHEN {_FREE} THEN excluded.next_at ELSE customer_tasks.next_at END",
    },
    where="excluded.lane < customer_tasks.lane OR excluded.deadline < customer_tasks.deadline "
    f"OR customer_tasks.waiting = 0 AND {_FREE}",
)


def _micros(moment: int) -> ColumnElement[int]:
    return literal(moment, BigInteger)


def _is(action: str, origin: str) -> ColumnElement[bool]:
    return (changes.c.action == action) & (changes.c.origin == origin)


def of_bucket(bucket: Bucket) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Say that a customer task belongs to a bucket."""
    return customer_tasks.c.connection == bucket.connection, customer_tasks.c.bucket == bucket.name
