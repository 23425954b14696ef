"""For how long customers have waited: the first of those that are due, and the first with an opt-out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from consent.change import Bucket, Lane
from consent.ledger.database import LedgerPart
from consent.ledger.queue.enqueue import of_bucket
from consent.ledger.review.pauses import ALL_LANES, open_lanes
from consent.ledger.schema import customer_tasks, is_due, is_put_off, leases

_FIRST = 1_000
"""Customers of each bucket and lane that are looked at, from the head of its line: those are called next."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Since when what waits longest has waited (microseconds), None where nothing waits.

    `due_since` is about customers who could be called now and are not paused; `opt_out_since` is about opt-outs, also
    those that are paused, wait for another try or are under a lease. A customer with several changes has waited since
    the first of them. Where many wait, it is about those at the head of each line, and not about who came later with a
    later deadline.
    """

    due_since: int | None = None
    opt_out_since: int | None = None


class BacklogQueries(LedgerPart):
    """For how long customers have waited, and whether a run is at work."""

    def backlog(self, buckets: Iterable[Bucket]) -> Backlog:
        """Look at these buckets, which are those that have something pending; raises LedgerUnavailable.

        Of those that are due, the index gives the first of each bucket and lane, whatever their number; those that are
        put off are gone through: only customers that a worker has claimed are among them.
        """

        def work(tx: Connection) -> Backlog:
            lanes = {bucket: open_lanes(tx, bucket) for bucket in buckets}
            due = {lane: _first_due(tx, lanes, lane) for lane in Lane}
            is_paused = any(its != ALL_LANES for its in lanes.values())
            callable_ = [
                _first_due(tx, [bucket for bucket, its in lanes.items() if lane in its], lane)
                if is_paused
                else due[lane]
                for lane in Lane
            ]
            outs = (Lane.EVENT_OPTOUT, Lane.BULK_OPTOUT)
            put_off = select(func.min(customer_tasks.c.enqueued_at))
            put_off = put_off.where(is_put_off, customer_tasks.c.lane <= max(outs))
            return Backlog(
                _earliest(callable_), _earliest([*(due[lane] for lane in outs), tx.execute(put_off).scalar()])
            )

        return self.database.read(work)

    def run_lease_held(self) -> bool:
        """Whether a run with a broker of its own is at work."""
        held = select(leases.c.until).where(leases.c.name == "run", leases.c.until > self.core.now())
        return self.database.read(lambda tx: tx.execute(held).first()) is not None


def _first_due(tx: Connection, buckets: Iterable[Bucket], lane: Lane) -> int | None:
    urgent = (customer_tasks.c.lane, customer_tasks.c.deadline)  # the order of the index, so that it is used
    first = select(customer_tasks.c.enqueued_at).where(is_due, customer_tasks.c.lane == int(lane)).order_by(*urgent)
    heads = (first.where(*of_bucket(one)).limit(_FIRST).subquery() for one in buckets)
    return _earliest(tx.execute(select(func.min(head.c.enqueued_at))).scalar() for head in heads)


def _earliest(moments: Iterable[int | None]) -> int | None:
    return min((one for one in moments if one is not None), default=None)
