"""For how long customers have waited: the first of those that are due, and the first with an opt-out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from consent.change import Bucket, Lane
from consent.ledger.database import LedgerPart
from consent.ledger.queue.enqueue import HONOUR_WITHIN_SECONDS, of_bucket
from consent.ledger.schema import customer_tasks, is_due, is_put_off, leases

_BEFORE = HONOUR_WITHIN_SECONDS * 1_000_000
"""A customer task's deadline is so much after the moment when its first change became due (microseconds)."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Since when what waits longest has waited (microseconds), None where nothing waits.

    `due_since` is about customers who could be called now, `opt_out_since` about opt-outs, also those that wait for
    another try or under a lease. A customer with several changes has waited since the first of them.
    """

    due_since: int | None = None
    opt_out_since: int | None = None


class BacklogQueries(LedgerPart):
    """For how long customers have waited, and whether a run is at work."""

    def backlog(self, buckets: Iterable[Bucket]) -> Backlog:
        """Look at these buckets, which are those that have something pending; raises LedgerUnavailable.

        Of those that are due, the index gives the first of each bucket and lane, whatever their number. Those that are
        put off are gone through: only customers that a worker has claimed are among them.
        """

        def work(tx: Connection) -> Backlog:
            due = {lane: _first_due(tx, buckets, lane) for lane in Lane}
            outs = (Lane.EVENT_OPTOUT, Lane.BULK_OPTOUT)
            put_off = select(func.min(customer_tasks.c.deadline)).where(is_put_off, customer_tasks.c.lane <= max(outs))
            return Backlog(
                _earliest(due.values()), _earliest([*(due[lane] for lane in outs), tx.execute(put_off).scalar()])
            )

        return self.database.read(work)

    def run_lease_held(self) -> bool:
        """Whether a run with a broker of its own is at work."""
        held = select(leases.c.until).where(leases.c.name == "run", leases.c.until > self.core.now())
        return self.database.read(lambda tx: tx.execute(held).first()) is not None


def _first_due(tx: Connection, buckets: Iterable[Bucket], lane: Lane) -> int | None:
    first = select(func.min(customer_tasks.c.deadline)).where(is_due, customer_tasks.c.lane == int(lane))
    return min(
        (found for one in buckets if (found := tx.execute(first.where(*of_bucket(one))).scalar()) is not None),
        default=None,
    )


def _earliest(deadlines: Iterable[int | None]) -> int | None:
    return min((one - _BEFORE for one in deadlines if one is not None), default=None)
