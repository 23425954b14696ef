"""Fuses that have tripped: what they hold, and what people decide about it.

A decision is one transaction. It is carried out in steps of a transaction each, by the command and, if that dies, by
the sweep: what was held is enqueued again, or dies without a call.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, delete, func, literal, select, update

from consent.change import Action, Bucket, read_bucket
from consent.errors import LedgerError
from consent.guards.fuse import FuseState, FuseWay
from consent.ledger.queue.deadlines import earliest_deadline
from consent.ledger.review.fuse_counts import BUCKET, IMPORT, IS_TRIPPED, FusesOfWorkers, fuses, is_held
from consent.ledger.review.fuse_steps import close_if_over, let_die, same, some_pending, unhold
from consent.ledger.review.guard_checks import note_decision
from consent.ledger.review.holds import Decision
from consent.ledger.schema import changes, customer_tasks
from consent.times import from_micros

T = TypeVar("T")

MOST_COUNTED = 50_000
"""Changes that are counted to say how many fuses hold; so they are shown soon, however many there are."""

SOON_SECONDS = 2.0
"""For how long a request carries out what it has decided, before it is answered."""

_WAYS = {
    FuseWay.RESUME: FuseState.CLOSED,
    FuseWay.OPTOUTS: FuseState.OPTOUTS,
    FuseWay.LET_DIE: FuseState.DYING,
    FuseWay.OFF: FuseState.OFF,
}


@dataclass(frozen=True, slots=True)
class TrippedFuse:
    """A fuse that has tripped, and the pending changes that it holds; moments in microseconds.

    `origin` is what is held: an import's id, `kind:name` of an event source, or "" for all of the bucket. `due_at` is
    the earliest deadline of the opt-outs. Where `at_least`, there are more changes than were counted, and `due_at` is
    that of the bucket, which may be earlier.
    """

    bucket: Bucket
    origin: str
    title: str
    import_id: str
    state: FuseState
    code: str
    reason: str
    tripped_at: int
    optins: int
    optouts: int
    due_at: int | None
    at_least: bool = False

    @property
    def names(self) -> frozenset[str]:
        """What a person may call it by."""
        return frozenset({self.bucket.connection, str(self.bucket), self.origin, self.import_id} - {""})

    def as_json(self) -> dict[str, Any]:
        """Return it as programs read it."""
        return {
            "fuse": str(self.bucket),
            "connection": self.bucket.connection,
            "bucket": self.bucket.name,
            "import": self.import_id or None,
            "origin": self.origin or None,
            "name": self.title,
            "state": self.state.value,
            "code": self.code,
            "reason": self.reason,
            "held_at": from_micros(self.tripped_at).isoformat(),
            "optins": self.optins,
            "optouts": self.optouts,
            "at_least": self.at_least,
            "first_due_at": None if self.due_at is None else from_micros(self.due_at).isoformat(),
        }


class Fuses(FusesOfWorkers):
    """Fuses, as people decide about them, beside what workers ask. Each method raises LedgerUnavailable."""

    def tripped(self, most: int = MOST_COUNTED) -> list[TrippedFuse]:
        """Return the fuses that have tripped, the oldest first; of all of them so many changes are counted.

        That of an import of which nothing is pending any more is left out: `close_those_over` closes it.
        """
        query = select(fuses).where(IS_TRIPPED).order_by(fuses.c.tripped_at, fuses.c.name, fuses.c.origin)

        def work(tx: Connection) -> list[TrippedFuse]:
            rows = tx.execute(query).all()
            found = [_tripped(tx, row, max(1, most // len(rows))) for row in rows]
            return [one for one in found if one.optins or one.optouts or one.origin != one.import_id or not one.origin]

        return self.database.read(work)

    def is_known(self, name: str) -> bool:
        """Whether there is a fuse, tripped or not, of what this names or begins to name."""
        query = select(fuses.c.name, fuses.c.origin, fuses.c.import_id)
        rows = self.database.read(lambda tx: tx.execute(query).all())
        return any(str(one or "").startswith(name) for row in rows for one in row)

    def reset(self, name: str, way: FuseWay, decision: Decision, *, bucket: Bucket | None = None) -> list[TrippedFuse]:
        """Go on, in one way, with the tripped fuses that a name means; return these, as they are then.

        A name is that of a connection or a bucket, an import's id, or an origin; with `bucket` it is an origin, and
        only its fuse of that bucket is meant. What is to happen to the changes is then done by `work_off`. Saying it
        again changes nothing.
        """
        now = self.core.now()

        def work(tx: Connection) -> list[TrippedFuse]:
            rows = tx.execute(select(fuses).where(IS_TRIPPED).order_by(fuses.c.name, fuses.c.origin)).all()
            done = []
            for row in rows:
                its = {row.name, row.origin, row.import_id, read_bucket(row.name).connection}
                if name not in its if bucket is None else (row.name, row.origin) != (str(bucket), name):
                    continue
                locked = tx.execute(select(fuses).where(*same(row), IS_TRIPPED).with_for_update()).first()
                state = _WAYS[way] if row.kind != BUCKET or way is not FuseWay.LET_DIE else FuseState.CLOSED
                if locked is None or locked.state == state.value:
                    continue
                tx.execute(update(fuses).where(*same(row)).values(**_begun(tx, state, now)))
                what = f"fuse of {row.name} reset: {way.value}"
                note_decision(tx, row.import_id or "", decision.who, what, decision.why, now)
                done.append(_tripped(tx, tx.execute(select(fuses).where(*same(row))).one(), MOST_COUNTED))
            return done

        return self.database.write(work)

    def work_off(self, go_on: Callable[[], bool] = lambda: True) -> int:
        """Carry out what was decided, while `go_on` says so; return how many customers it was about.

        What a worker holds at the moment is left to the next time.
        """
        count = 0
        query = select(fuses).where(fuses.c.unheld_to.is_not(None) | (fuses.c.state == FuseState.DYING.value))
        for row in self.database.read(lambda tx: tx.execute(query).all()):
            step = let_die if row.state == FuseState.DYING else unhold
            done = 1
            while done and go_on():
                done = self._carry_out(step, row)
                count += done
            if step is let_die and not done:
                while go_on() and self._carry_out(unhold, row):
                    pass
        return count

    def _carry_out(self, step: Callable[[Connection, Row[Any], int], T], row: Row[Any]) -> T:
        now = self.core.now()
        return self.database.write(lambda tx: step(tx, row, now))

    def work_off_soon(self, seconds: float = SOON_SECONDS) -> None:
        """Carry out what was decided, for so long; the sweep goes on with the rest, also if the ledger is away."""
        until = time.monotonic() + seconds
        with suppress(LedgerError):
            self.work_off(lambda: time.monotonic() < until)

    def close_those_over(self) -> None:
        """Close the fuses of imports of which nothing is left, with a note in the audit log; for the sweep."""
        tripped = select(fuses).where(IS_TRIPPED, fuses.c.kind == IMPORT)
        for row in self.database.read(lambda tx: tx.execute(tripped).all()):
            if not self.database.read(lambda tx, row=row: tx.execute(some_pending(tx, row, 1)).first()):  # type: ignore[misc]
                self._carry_out(close_if_over, row)

    def forget(self, before: int) -> None:
        """Forget counts of fuses that have not tripped, if nothing was counted since (microseconds)."""
        idle = (fuses.c.state == FuseState.CLOSED.value, fuses.c.unheld_to.is_(None), fuses.c.touched_at < before)
        if self.database.read(lambda tx: tx.execute(select(literal(1)).where(*idle).limit(1)).first()):
            self.database.write(lambda tx: tx.execute(delete(fuses).where(*idle)))

    def holding(self) -> dict[tuple[Bucket, str], int]:
        """Return how many fuses have tripped, by bucket and origin: an event source's, or `import` for all files."""
        query = select(fuses.c.name, fuses.c.kind, fuses.c.origin).where(IS_TRIPPED)
        rows = self.database.read(lambda tx: tx.execute(query).all())
        return Counter((read_bucket(name), kind if kind == IMPORT else origin) for name, kind, origin in rows)

    def held_customers(self) -> dict[Bucket, int]:
        """Return how many customers of each bucket are held by fuses."""
        place = (customer_tasks.c.connection, customer_tasks.c.bucket)
        query = select(*place, func.count()).where(is_held).group_by(*place)
        rows = self.database.read(lambda tx: tx.execute(query).all())
        return {Bucket(connection, bucket): count for connection, bucket, count in rows}


def _begun(tx: Connection, state: FuseState, now: int) -> dict[str, Any]:
    """Return how a fuse stands once a person has decided: it counts anew."""
    values: dict[str, Any] = {"state": state.value, "alike": None, "failed": None, "served": 0, "touched_at": now}
    if state is FuseState.DYING:
        last = tx.execute(select(func.max(changes.c.id))).scalar() or 0
        return values | {"dies_from": 0, "dies_to": last, "unheld_to": None}
    return values | {"dies_from": None, "dies_to": None, "unheld_to": 0}


def _tripped(tx: Connection, row: Row[Any], most: int) -> TrippedFuse:
    bucket = read_bucket(row.name)
    facts = some_pending(tx, row, most).with_only_columns(changes.c.action, changes.c.due_at).subquery()
    counted = select(facts.c.action, func.count(), func.min(facts.c.due_at)).group_by(facts.c.action)
    found: Mapping[str, tuple[int, int | None]] = {action: (n, due) for action, n, due in tx.execute(counted)}
    optins, (optouts, due_at) = found.get(Action.OPTIN.value, (0, None))[0], found.get(Action.OPTOUT.value, (0, None))
    at_least = optins + optouts >= most
    if at_least and (first := earliest_deadline(tx, bucket)) is not None:
        due_at = first if due_at is None else min(first, due_at)
    return TrippedFuse(
        bucket=bucket,
        origin=row.origin,
        title=row.title,
        import_id=row.import_id or "",
        state=FuseState(row.state),
        code=row.code or "",
        reason=row.reason or "",
        tripped_at=row.tripped_at or row.touched_at,
        optins=optins,
        optouts=optouts,
        due_at=due_at,
        at_least=at_least,
    )
