"""How each bucket is: its breaker, and until when its provider asked us to wait.

A limit, a refusal or an outage of one bucket says nothing of its neighbours in the same connection.

It stands in the ledger, not in the broker, so that every process sees it and a wiped broker forgets nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import Connection, Row, bindparam, or_, select, update

from consent.change import Bucket
from consent.ledger.database import LedgerPart
from consent.ledger.dialects.statements import NEW, bulk
from consent.ledger.queue.tasks import IN_DOUBT
from consent.ledger.schema import changes, circuit_breakers, customer_tasks, is_put_off
from consent.outcome import State

_REMEMBERED = 50
"""Suspects that are kept for each bucket: the latest ones."""


class Breaker(StrEnum):
    """Closed: calls are made. Otherwise none is made but a probe now and then."""

    CLOSED = "closed"
    REFUSED = "refused"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class BucketHealth:
    """What is known of a bucket, by its name as text; moments in microseconds, 0 or None for never.

    `suspects` are the targets whose answers opened the breaker, the latest last: the next probe takes another one.
    `served_id` is the target that was served last, by a call that began at `healthy_at`: the provider worked then.
    """

    name: str
    breaker: Breaker = Breaker.CLOSED
    reason: str | None = None
    opened_at: int | None = None
    probe_at: int = 0
    failures: int = 0
    trips: int = 0
    throttled_until: int = 0
    healthy_at: int | None = None
    suspects: tuple[int, ...] = ()
    served_id: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether its breaker is open: a call would be a probe, for which one task is enough."""
        return self.breaker is not Breaker.CLOSED


class Breakers(LedgerPart):
    """How each bucket is, as every process sees it."""

    def health_of(self, name: str) -> BucketHealth:
        """Return how the bucket of this name (`str(bucket)`) is; one that was never used is well."""
        row = self.database.read(lambda tx: tx.execute(_BY_NAME, {"which": name}).first())
        return BucketHealth(name) if row is None else _health(row)

    def all_health(self) -> list[BucketHealth]:
        """Return how every bucket is that was ever used."""
        query = select(circuit_breakers).order_by(circuit_breakers.c.name)
        return [_health(row) for row in self.database.read(lambda tx: tx.execute(query).all())]

    def latest_answer(self, bucket: Bucket) -> str | None:
        """Return the latest answer (code and words) about a customer of a bucket that waits for another try."""
        # Of all that are under lease for the first time, the changes would be read to find that none has an answer.
        lease = customer_tasks.c.lease_token
        tried = or_(customer_tasks.c.tries > 0, lease.is_(None), lease == IN_DOUBT)
        waits = (customer_tasks.c.connection == bucket.connection, customer_tasks.c.bucket == bucket.name, tried)
        query = (
            select(changes.c.code, changes.c.reason)
            .join(customer_tasks, customer_tasks.c.target_id == changes.c.target_id)
            .where(is_put_off, *waits, changes.c.state == State.PENDING.value, changes.c.code.is_not(None))
            .order_by(customer_tasks.c.next_at.desc())
            .limit(1)
        )
        row = self.database.read(lambda tx: tx.execute(query).first())
        return None if row is None else f"{row.code}: {row.reason}"

    def open_breaker(self, before: BucketHealth, trouble: Trip, *, now: int) -> None:
        """Make no call in a bucket until the probe is due; how often in a row that happened is counted in `trips`.

        `before` is how the bucket was when the failing calls began. Where another delivery has opened the breaker
        since, it is the same trouble seen twice: that is not counted again, but a refusal is still noted.
        """

        def work(tx: Connection) -> None:
            row = locked(tx, before.name)
            fresh = _is_as(row, before)
            if not fresh and (trouble.breaker is not Breaker.REFUSED or row.breaker == Breaker.REFUSED.value):
                return
            values = {
                "breaker": trouble.breaker.value,
                "reason": trouble.reason,
                "opened_at": row.opened_at or now,
                "probe_at": trouble.probe_at,
                "trips": row.trips + (1 if fresh and trouble.counts else 0),
                "suspects": orjson.dumps(_latest(*_suspects(row), *trouble.suspects)).decode(),
            }
            tx.execute(UPDATE_BREAKER, {"which": before.name, **values})

        self.database.write(work)

    def take_probe(self, name: str, *, now: int, until: int) -> bool:
        """Win, or not, the right to make the one call that finds out whether a bucket is well again."""
        asked = {"which": name, "now": now, "until": until}
        return self.database.write(lambda tx: tx.execute(_WIN_PROBE, asked).rowcount) == 1

    def close_breaker(self, before: BucketHealth, *, served: tuple[int, int] | None) -> None:
        """Note that a bucket answers, and which target it served last and when that call began (None: none this time).

        `before` is how the bucket was when the answered calls began: a breaker that was opened since stays open,
        because what opened it is the newer news.
        """

        def work(tx: Connection) -> None:
            row = locked(tx, before.name)
            if served is not None and served[1] >= (row.healthy_at or 0):
                tx.execute(UPDATE_BREAKER, {"which": before.name, "served_id": served[0], "healthy_at": served[1]})
            if _is_as(row, before):
                tx.execute(_CLOSE, {"which": before.name})

        self.database.write(work)

    def count_failures(self, name: str, more: int) -> int:
        """Add to the failures in a row of a bucket; return how many there are now."""

        def work(tx: Connection) -> int:
            failures: int = locked(tx, name).failures + more
            tx.execute(UPDATE_BREAKER, {"which": name, "failures": failures})
            return failures

        return self.database.write(work)

    def throttle(self, name: str, *, until: int) -> None:
        """Note that a provider asked us to make no call before `until`."""

        def work(tx: Connection) -> None:
            row = locked(tx, name)
            tx.execute(UPDATE_BREAKER, {"which": name, "throttled_until": max(until, row.throttled_until)})

        self.database.write(work)

    def probe_soon(self) -> None:
        """Let every open breaker be probed at once: a person is looking, and may have fixed something.

        The probes are counted anew (`trips`), but still take other customers than those whose answers opened it.
        """
        waiting = update(circuit_breakers).where(circuit_breakers.c.breaker != Breaker.CLOSED.value)
        soon = waiting.values(probe_at=self.core.now(), trips=0)
        self.database.write(lambda tx: tx.execute(soon))


@dataclass(frozen=True, slots=True)
class Trip:
    """Why a breaker opens: what it becomes, in which words, when the next probe is due, and whose answers did it.

    `counts` says whether it is one trip more.
    """

    breaker: Breaker
    reason: str
    probe_at: int
    suspects: tuple[int, ...] = ()
    counts: bool = True


_BY_NAME = select(circuit_breakers).where(circuit_breakers.c.name == bindparam("which"))
_LOCKED = _BY_NAME.with_for_update()
UPDATE_BREAKER = update(circuit_breakers).where(circuit_breakers.c.name == bindparam("which"))
_CLOSED = {"breaker": Breaker.CLOSED.value, "reason": None, "opened_at": None, "probe_at": None}
_CLOSE = UPDATE_BREAKER.values(**_CLOSED, failures=0, trips=0, suspects=None)
_IS_DUE = (circuit_breakers.c.breaker != Breaker.CLOSED.value, circuit_breakers.c.probe_at <= bindparam("now"))
_WIN_PROBE = UPDATE_BREAKER.where(*_IS_DUE).values(probe_at=bindparam("until"))


def locked(tx: Connection, name: str) -> Row[Any]:
    """Return what is known of a bucket, which no one else changes meanwhile; note it first if it was never used."""
    bulk(tx).insert(circuit_breakers, ("name", "breaker"), [(name, Breaker.CLOSED.value)], NEW)
    return tx.execute(_LOCKED, {"which": name}).one()


def _is_as(row: Row[tuple[object, ...]], before: BucketHealth) -> bool:
    """Return whether no breaker was opened or closed since."""
    return (row.opened_at, row.trips) == (before.opened_at, before.trips)


def _suspects(row: Row[tuple[object, ...]]) -> tuple[int, ...]:
    return tuple(orjson.loads(row.suspects)) if row.suspects else ()


def _latest(*targets: int) -> Iterable[int]:
    """Return each target once, where it stands last, and no more than are remembered."""
    return list(dict.fromkeys(reversed(targets)))[:_REMEMBERED][::-1]


def _health(row: Row[tuple[object, ...]]) -> BucketHealth:
    return BucketHealth(
        row.name,
        Breaker(row.breaker),
        row.reason,
        row.opened_at,
        row.probe_at or 0,
        row.failures,
        row.trips,
        row.throttled_until,
        row.healthy_at,
        _suspects(row),
        row.served_id,
    )
