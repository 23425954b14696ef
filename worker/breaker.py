"""Stopping the calls in a bucket that is down or refuses us, and finding out when it is well again.

What opens it stands in the ledger, so every process stops; half-open is one probe, won by one process.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from consent.bucket import Bucket
from consent.ledger import health
from consent.ledger.health import Breaker, BucketHealth
from consent.ledger.ledger import Ledger
from consent.ledger.work import CustomerTask
from consent.outcome import Health, Refused, Throttled, Unwell, Well

FAILURES_TO_OPEN = 5
THROTTLE_SECONDS = 60.0
_WELL_AGAIN_AFTER = 5_000_000
_ODDS = random.SystemRandom()


_GRAVITY: dict[type, int] = {Well: 0, Unwell: 1, Throttled: 2, Refused: 3}
_ENOUGH = _GRAVITY[Throttled]


@dataclass(slots=True)
class Watch:
    """What one stroke has seen of its bucket, and whether it should go on.

    `blamed` says that a failure may be the fault of its change: then it matters when the bucket last did well.
    """

    proven: bool = False
    blamed: bool = False
    answered: bool = False
    failures: int = 0
    seen: Health = field(default_factory=Well)

    def note(self, seen: Health, *, proof: bool) -> None:
        """Take in one answer; `proof` says that it settled a change, so the bucket surely works."""
        match seen:
            case Well():
                self.answered, self.failures = True, 0
                self.proven = self.proven or proof
            case Unwell():
                self.failures += 1
            case Throttled() | Refused():
                pass
        if _GRAVITY[type(seen)] >= _GRAVITY[type(self.seen)]:
            self.seen = seen

    @property
    def stop(self) -> bool:
        """Whether to make no further call in this stroke."""
        return _GRAVITY[type(self.seen)] >= _ENOUGH or self.failures >= FAILURES_TO_OPEN


def is_probe(found: BucketHealth) -> bool:
    """Whether a call in this bucket would be the probe of an open breaker: then one task is enough."""
    return found.breaker is not Breaker.CLOSED


def win_probe(ledger: Ledger, found: BucketHealth, seconds: float) -> bool:
    """Win, or not, the one probe; whoever wins has so many seconds for it before another may try."""
    now = ledger.now()
    return health.take_probe(ledger.database, found.name, now=now, until=now + int(seconds * 1_000_000))


def may_call(found: BucketHealth, now: int) -> bool:
    """Whether it is worth waking a worker for this bucket."""
    if found.throttled_until > now:
        return False
    return found.breaker is Breaker.CLOSED or found.probe_at <= now


def is_proven(ledger: Ledger, found: BucketHealth, watch: Watch, task: CustomerTask) -> bool:
    """Whether a failure is about the change and not about the provider.

    It is if the bucket settled something for somebody in this stroke, or since the task's changes failed first: a
    provider that answers everybody with "internal error" kills nothing, however long and however few they are.
    """
    watch.blamed = True
    if watch.proven:
        return True
    if found.well_at is None or found.breaker is not Breaker.CLOSED:
        return False
    first = ledger.first_tried_at(task)
    return first is not None and found.well_at > first


def conclude(ledger: Ledger, before: BucketHealth, watch: Watch) -> None:
    """Write down what a stroke has learnt about its bucket."""
    match watch.seen:
        case Refused(reason):
            _open(ledger, before, Breaker.REFUSED, reason)
        case Throttled():
            pass  # was told at once, see `throttle`
        case Unwell(reason) if watch.failures and _too_many(ledger, before, watch):
            _open(ledger, before, Breaker.DOWN, reason)
        case _ if watch.answered:
            _close(ledger, before, watch)
        case _:
            pass


def throttle(ledger: Ledger, bucket: Bucket, seconds: float) -> None:
    """Let no process make a call in a bucket for so many seconds: its provider asked for it."""
    health.throttle(ledger.database, str(bucket), until=ledger.now() + int(seconds * 1_000_000))


def _too_many(ledger: Ledger, before: BucketHealth, watch: Watch) -> bool:
    if before.breaker is not Breaker.CLOSED or watch.failures >= FAILURES_TO_OPEN:
        return True
    return health.count_failures(ledger.database, before.name, watch.failures) >= FAILURES_TO_OPEN


def _open(ledger: Ledger, before: BucketHealth, breaker: Breaker, reason: str) -> None:
    first, longest = (15.0, 300.0) if breaker is Breaker.REFUSED else (1.0, 10.0)
    wait = min(longest, first * 2 ** min(before.trips, 10)) * _ODDS.uniform(0.5, 1.0)
    now = ledger.now()
    probe_at = now + int(wait * 1_000_000)
    health.open_breaker(ledger.database, before, breaker, reason, now=now, probe_at=probe_at)


def _close(ledger: Ledger, before: BucketHealth, watch: Watch) -> None:
    now = ledger.now()
    stale = before.well_at is None or now - before.well_at > _WELL_AGAIN_AFTER
    if ((stale or watch.blamed) and watch.proven) or before.failures or before.breaker is not Breaker.CLOSED:
        health.close_breaker(ledger.database, before, proven_at=now if watch.proven else None)
