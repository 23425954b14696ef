"""Making customer tasks: this target has changes to deliver, this urgent, before then."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, case, func, literal, select

from consent.bucket import Bucket
from consent.change import Action, Origin, lane_of
from consent.ledger.bulk import Renewal, among, insert_or_update, insert_or_update_from, portions
from consent.ledger.register import NewWord
from consent.ledger.schema import changes, customer_tasks, targets

HONOUR_WITHIN_SECONDS = 48 * 3600
"""Until when a change should be delivered: bulk senders must honour an unsubscribe within 48 hours.

Source: Google's and Yahoo's sender guidelines of 2024 (laws give more: CAN-SPAM ten business days).
"""


_LANES = {(action.value, origin.value): int(lane_of(action, origin)) for action in Action for origin in Origin}


def make_due(tx: Connection, words: Iterable[NewWord], *, now: int) -> None:
    """Make, or make more urgent, the customer tasks of these standing words: due at once unless under lease."""
    urgent: dict[int, int] = {}
    for word in words:
        lane = _LANES[word.action, word.origin]
        urgent[word.target_id] = min(lane, urgent.get(word.target_id, lane))
    numbers = sorted(urgent)
    buckets = _buckets(tx, numbers)
    deadline = now + HONOUR_WITHIN_SECONDS * 1_000_000
    rows = [(number, *buckets[number], urgent[number], deadline, 1, now) for number in numbers]
    insert_or_update(tx, customer_tasks, _COLUMNS, rows, _RENEWED)


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


def make_all_due(tx: Connection, meant: Sequence[ColumnElement[bool]], limit: int, *, now: int) -> int | None:
    """Do the same for the first `limit` changes that are meant, inside the database; return the number of the last."""
    some = select(changes.c.id).where(*meant).order_by(changes.c.id).limit(limit).subquery()
    last: int | None = tx.execute(select(func.max(some.c.id))).scalar()
    if last is None:
        return None
    urgent = func.min(case(*((_says(a, o), lane) for (a, o), lane in _LANES.items())))
    bounds = (literal(now + HONOUR_WITHIN_SECONDS * 1_000_000), literal(1), literal(now))
    found = (
        select(targets.c.id, targets.c.connection, targets.c.bucket, urgent, *bounds)
        .join(changes, changes.c.target_id == targets.c.id)
        .where(*meant, changes.c.id <= last)
        .group_by(targets.c.id)
        .order_by(targets.c.id)
    )
    insert_or_update_from(tx, customer_tasks, _COLUMNS, found, _RENEWED)
    return last


def _says(action: str, origin: str) -> ColumnElement[bool]:
    return (changes.c.action == action) & (changes.c.origin == origin)


def _buckets(tx: Connection, numbers: list[int]) -> dict[int, Bucket]:
    found: dict[int, Bucket] = {}
    for some in portions(numbers):
        query = select(targets.c.id, targets.c.connection, targets.c.bucket)
        rows = tx.execute(query.where(among(tx, targets.c.id, some))).all()
        found.update((number, Bucket(connection, name)) for number, connection, name in rows)
    return found
