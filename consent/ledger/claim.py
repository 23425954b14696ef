"""Taking due customer tasks under lease: exclusive, most urgent lane first, then earliest deadline."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Select, delete, func, literal_column, select, update

from consent.bucket import Bucket
from consent.change import Action, Lane
from consent.ledger.bulk import portions
from consent.ledger.database import Database
from consent.ledger.schema import changes, customer_tasks, slots, targets
from consent.ledger.work import ClaimedChange, CustomerTask
from consent.outcome import State

PROMOTED_AT_ONCE = 2_000

_waiting: ColumnElement[bool] = literal_column(
    "waiting = 1"
)  # literal, so that the partial index of due tasks serves the query
_put_off: ColumnElement[bool] = literal_column("waiting = 0")


def claim(
    database: Database, bucket: Bucket, limit: int, token: str, *, now: int, lease_until: int
) -> list[CustomerTask]:
    """Take up to `limit` due targets of a bucket under a lease; return them with their newest words.

    The lease ends at `lease_until` (microseconds): whoever still holds the token then has lost it. What the provider
    holds for these slots counts as unknown from here on, whatever happens next.
    """

    def work(tx: Connection) -> list[CustomerTask]:
        promote(tx, bucket, now)
        keys = _pick(tx, bucket, limit)
        if not keys:
            return []
        leased = update(customer_tasks).where(customer_tasks.c.target_key.in_(keys))
        tx.execute(leased.values(waiting=0, again=0, lease_token=token, next_at=lease_until))
        tasks = _load(tx, keys)
        _drop_empty(tx, keys, tasks)
        _forget_confirmed(tx, tasks)
        return tasks

    return database.write(work)


def promote(tx: Connection, bucket: Bucket, now: int) -> int:
    """Make due what was put off until now, and what a lost stroke held; return how many targets."""
    ripe = (
        select(customer_tasks.c.target_key)
        .where(_put_off, *_of(bucket), customer_tasks.c.next_at <= now)
        .order_by(customer_tasks.c.next_at)
        .limit(PROMOTED_AT_ONCE)
    )
    keys = tx.execute(ripe.with_for_update(skip_locked=True)).scalars().all()
    for some in portions(keys):
        due = update(customer_tasks).where(customer_tasks.c.target_key.in_(some))
        tx.execute(due.values(waiting=1, lease_token=None))
    return len(keys)


def due_count(database: Database, bucket: Bucket, limit: int, now: int) -> int:
    """Return how many targets of a bucket are due, counting no further than `limit`."""
    ready = select(literal_column("1")).where(_waiting, *_of(bucket)).limit(limit).subquery()
    ripe = (
        select(literal_column("1"))
        .where(_put_off, *_of(bucket), customer_tasks.c.next_at <= now)
        .limit(limit)
        .subquery()
    )

    def work(tx: Connection) -> int:
        return sum(tx.execute(select(func.count()).select_from(part)).scalar_one() for part in (ready, ripe))

    return min(limit, database.read(work))


def put_off_count(database: Database, bucket: Bucket, limit: int) -> int:
    """Return how many targets of a bucket wait for another try, counting no further than `limit`."""
    waiting = (_put_off, *_of(bucket), customer_tasks.c.lease_token.is_(None))
    some = select(literal_column("1")).where(*waiting).limit(limit).subquery()
    return database.read(lambda tx: tx.execute(select(func.count()).select_from(some)).scalar_one())


def buckets(database: Database, connection: str) -> list[Bucket]:
    """Return the buckets of a connection that have customer tasks, by one look at the index for each."""

    def work(tx: Connection) -> list[Bucket]:
        found: list[Bucket] = []
        for state in (_waiting, _put_off):
            last = None
            while (name := tx.execute(_next_bucket(state, connection, last)).scalar()) is not None:
                last = name
                found.append(Bucket(connection, name))
        return sorted(set(found))

    return database.read(work)


def _next_bucket(state: ColumnElement[bool], connection: str, last: str | None) -> Select[str]:
    beyond = () if last is None else (customer_tasks.c.bucket > last,)
    query = select(customer_tasks.c.bucket).where(state, customer_tasks.c.connection == connection, *beyond)
    return query.order_by(customer_tasks.c.bucket).limit(1)


def _of(bucket: Bucket) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return customer_tasks.c.connection == bucket.connection, customer_tasks.c.bucket == bucket.name


def _pick(tx: Connection, bucket: Bucket, limit: int) -> list[bytes]:
    keys: list[bytes] = []
    for lane in Lane:
        if (wanted := limit - len(keys)) <= 0:
            break
        query = (
            select(customer_tasks.c.target_key)
            .where(_waiting, *_of(bucket), customer_tasks.c.lane == int(lane))
            .order_by(customer_tasks.c.deadline)
            .limit(wanted)
        )
        keys.extend(tx.execute(query.with_for_update(skip_locked=True)).scalars())
    return keys


def _load(tx: Connection, keys: Sequence[bytes]) -> list[CustomerTask]:
    words = defaultdict(list)
    for row in tx.execute(_newest_pending(keys)):
        words[row.target_key].append(
            ClaimedChange(
                row.id,
                row.import_id,
                row.slot,
                Action(row.action),
                row.effective_at,
                json.loads(row.details),
                row.attempts,
                row.value,
            )
        )
    query = select(targets.c.target_key, targets.c.address, customer_tasks.c.tries).join(
        customer_tasks, customer_tasks.c.target_key == targets.c.target_key
    )
    found = {row.target_key: row for row in tx.execute(query.where(targets.c.target_key.in_(keys)))}
    return [
        CustomerTask(key, json.loads(found[key].address), tuple(words[key]), found[key].tries)
        for key in keys
        if key in words
    ]


def _newest_pending(keys: Sequence[bytes]):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a long generic
    return (
        select(changes)
        .join(slots, changes.c.id == slots.c.newest_id)
        .where(slots.c.target_key.in_(keys), changes.c.state == State.PENDING.value)
        .order_by(changes.c.effective_at, changes.c.id)
    )


def _drop_empty(tx: Connection, keys: Sequence[bytes], tasks: Sequence[CustomerTask]) -> None:
    """Forget tasks with nothing left to deliver: a newer word was confirmed already."""
    full = {task.target_key for task in tasks}
    if empty := [key for key in keys if key not in full]:
        tx.execute(delete(customer_tasks).where(customer_tasks.c.target_key.in_(empty)))


def _forget_confirmed(tx: Connection, tasks: Sequence[CustomerTask]) -> None:
    ids = [change.id for task in tasks for change in task.changes]
    keys = [task.target_key for task in tasks]
    for some in portions(ids):
        known = update(slots).where(slots.c.target_key.in_(keys), slots.c.newest_id.in_(some))
        tx.execute(known.values(confirmed=None))
