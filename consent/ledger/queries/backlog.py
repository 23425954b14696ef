"""For how long customers have waited, and which opt-outs wait for a person while their time runs out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select

from consent.change import Action, Bucket, Lane
from consent.deadlines.rules import HISTORIC
from consent.ledger.database import LedgerPart
from consent.ledger.dialects.statements import bulk
from consent.ledger.merge_terms import is_not_older, own_slot
from consent.ledger.queue.claim import open_lanes
from consent.ledger.queue.enqueue import of_bucket
from consent.ledger.review.guard_checks import PARTLY_HELD
from consent.ledger.review.pauses import ALL_LANES
from consent.ledger.schema import (
    changes,
    customer_tasks,
    dead_letters,
    imports,
    is_due,
    is_put_off,
    leases,
    slots,
    targets,
)
from consent.outcome import State
from consent.times import from_micros

NO_RULE = "none"
_DAY = 86_400_000_000
MOST_STUCK = 10_000
"""Opt-outs that wait for a person, dead or held, that are counted to say at once how it stands."""

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


@dataclass(frozen=True, slots=True)
class StuckOptOuts:
    """Opt-outs that nothing delivers until a person acts, by connection, `state` (dead or held) and rule.

    Their time goes on: `late` of them are after their deadline, `due_in_24h` are due within a day. `first_due` is the
    earliest deadline (microseconds; None where none is known, by an earlier version). Where `at_least`, there are more,
    and no more were looked at: each count is a lower bound then, and `first_due` may be earlier.
    """

    connection: str
    state: str
    rule: str
    open: int
    due_in_24h: int
    late: int
    first_due: int | None
    at_least: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return it as programs read it."""
        names = ("connection", "state", "rule", "open", "due_in_24h", "late", "at_least")
        first = None if self.first_due is None else from_micros(self.first_due).isoformat()
        return {name: getattr(self, name) for name in names} | {"first_due": first}


class BacklogQueries(LedgerPart):
    """Which buckets have customers that wait, for how long, and whether a run is at work."""

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

    def stuck_optouts(self, most: int | None = None) -> list[StuckOptOuts]:
        """Count opt-outs that are dead letters which no person has put away, or held by a guard.

        Those that a newer change has overtaken, and those that the provider is confirmed to hold, are none. It reads
        all dead letters and all that is held, or until `most` of either have been counted.
        """
        now, change = self.core.now(), changes.c
        facts = (targets.c.connection, change.state, func.coalesce(change.rule, NO_RULE).label("rule"), change.due_at)
        query = select(*facts).join_from(changes, targets, targets.c.id == change.target_id)
        query = query.outerjoin(slots, own_slot(changes)).where(change.action == Action.OPTOUT.value)
        query = query.where(func.coalesce(slots.c.confirmed, "") != Action.OPTOUT.value)
        dead = (
            change.state == State.DEAD.value,
            change.discarded_at.is_(None),
            slots.c.newest_id == change.id,
        )
        some = select(imports.c.id).where((imports.c.state == "held") | imports.c.id.in_(PARTLY_HELD))
        held = (
            change.state == State.HELD.value,
            slots.c.newest_id.is_(None) | is_not_older(changes),
        )

        def work(tx: Connection) -> list[StuckOptOuts]:
            # Of joins with what is few, PostgreSQL makes a walk through all changes.
            letters = bulk(tx).among_found(change.id, select(dead_letters.c.change_id))
            found = _counted(tx, query.where(letters, *dead), now, most)
            if waiting := list(tx.execute(some).scalars()):
                found += _counted(tx, query.where(change.import_id.in_(waiting), *held), now, most)
            return sorted(found, key=lambda one: (one.connection, one.state, one.rule))

        return self.database.read(work, by_key=True)

    def run_lease_held(self) -> bool:
        """Whether a run with a broker of its own is at work."""
        held = select(leases.c.until).where(leases.c.name == "run", leases.c.until > self.core.now())
        return self.database.read(lambda tx: tx.execute(held).first()) is not None


def _next_bucket(state: ColumnElement[bool], connection: str, last: str | None) -> Select[str]:
    beyond = () if last is None else (customer_tasks.c.bucket < last,)
    query = select(customer_tasks.c.bucket).where(state, customer_tasks.c.connection == connection, *beyond)
    return query.order_by(customer_tasks.c.bucket.desc()).limit(1)


def _counted(tx: Connection, query: Select[Any], now: int, most: int | None) -> list[StuckOptOuts]:
    """Count what a query gives, connection, state, rule and deadline, but no more than `most`."""
    some = query.limit(most).subquery().c
    by, timed = (some.connection, some.state, some.rule), some.rule != HISTORIC
    late, soon = (func.count().filter(timed, some.due_at.between(*span)) for span in ((0, now - 1), (now, now + _DAY)))
    query = select(*by, func.count(), soon, late, func.min(some.due_at)).group_by(*by)
    rows = tx.execute(query).all()
    at_least = most is not None and sum(row[len(by)] for row in rows) >= most
    return [replace(StuckOptOuts(*row), at_least=at_least) for row in rows]


def _first_due(tx: Connection, buckets: Iterable[Bucket], lane: Lane) -> int | None:
    urgent = (customer_tasks.c.lane, customer_tasks.c.deadline)  # the order of the index, so that it is used
    first = select(customer_tasks.c.enqueued_at).where(is_due, customer_tasks.c.lane == int(lane)).order_by(*urgent)
    heads = (first.where(*of_bucket(one)).limit(_FIRST).subquery() for one in buckets)
    return _earliest(tx.execute(select(func.min(head.c.enqueued_at))).scalar() for head in heads)


def _earliest(moments: Iterable[int | None]) -> int | None:
    return min((one for one in moments if one is not None), default=None)
