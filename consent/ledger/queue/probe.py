"""The one target that is called to find out whether a bucket is well again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from sqlalchemy import ColumnElement, Connection, func, select

from consent.change import Bucket, Lane
from consent.ledger.dialects.statements import among
from consent.ledger.queue.enqueue import of_bucket, within
from consent.ledger.schema import customer_tasks, is_due, is_put_off

_FAR = 100_000
"""How many of the due targets a probe is chosen from: to count them, and to step over them, costs milliseconds."""


_SOME = 64


_GOLDEN = 0.618_033_988_749_895
"""Its multiples, without what is before the point, lie spread evenly, in whatever order one meets them."""


def pick_another(tx: Connection, bucket: Bucket, suspects: Sequence[int], lanes: Sequence[Lane]) -> list[int]:
    """Return one target for a probe, out of these lanes.

    One that is due, was never tried and stands far from the suspects: their neighbours may share their fault. Else the
    most urgent one that is due and no suspect, before others one that was never tried: one that is refused again and
    again would be asked again and again. Else one that waits for its next try, since that may be for the bucket's fault
    and not its own; else, where there are only suspects, the one whose turn is longest ago.
    """
    another, is_open = customer_tasks.c.target_id.not_in(tuple(suspects)), within(lanes)
    one = select(customer_tasks.c.target_id).limit(1).with_for_update(skip_locked=True)
    if suspects and (far := _far_from(tx, bucket, suspects, is_open)):
        ready = one.where(is_due, *of_bucket(bucket), among(customer_tasks.c.target_id, far))
        if found := tx.execute(ready).scalars().all():
            return list(found)
    for fresh, lane in product((True, False), lanes):
        tried = (customer_tasks.c.tries == 0,) if fresh else ()
        ready = one.where(is_due, *of_bucket(bucket), customer_tasks.c.lane == int(lane), another, *tried)
        if found := tx.execute(ready.order_by(customer_tasks.c.deadline)).scalars().all():
            return list(found)
    waits = one.where(is_put_off, *of_bucket(bucket), customer_tasks.c.lease_token.is_(None), another, *is_open)
    if found := tx.execute(waits.order_by(customer_tasks.c.next_at)).scalars().all():
        return list(found)
    for suspect in suspects:
        query = one.where(is_due, *of_bucket(bucket), customer_tasks.c.target_id == suspect, *is_open)
        if found := tx.execute(query).scalars().all():
            return list(found)
    return []


def _far_from(
    tx: Connection, bucket: Bucket, suspects: Sequence[int], is_open: Sequence[ColumnElement[bool]]
) -> list[int]:
    """Return a few due targets that were never tried, from a place in the queue that differs from probe to probe.

    A file is often sorted: the customers of a branch that a provider knows no more stand side by side.
    """
    urgent = (customer_tasks.c.lane, customer_tasks.c.deadline)  # the order of the index, so that it is used
    due = select(customer_tasks.c.target_id, customer_tasks.c.tries)
    due = due.where(is_due, *of_bucket(bucket), *is_open).order_by(*urgent)
    count = tx.execute(select(func.count()).select_from(due.limit(_FAR).subquery())).scalar_one()
    some = due.offset(int(count * (suspects[-1] * _GOLDEN % 1))).limit(_SOME).subquery()
    fresh = select(some.c.target_id).where(some.c.tries == 0, some.c.target_id.not_in(tuple(suspects)))
    return list(tx.execute(fresh).scalars().all())
