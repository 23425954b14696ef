"""Stopping the calls to a connection that is down or refuses us, and finding out when it is well again.

What opens it stands in the ledger, so every process stops; half-open is one probe, won by one process.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from consent.bucket import Bucket
from consent.ledger import health
from consent.ledger.health import Breaker, ConnectionHealth
from consent.ledger.ledger import Ledger
from consent.outcome import Health, Refused, Throttled, Unwell, Well

FAILURES_TO_OPEN = 5
THROTTLE_SECONDS = 60.0
_WELL_AGAIN_AFTER = 5_000_000
_PROVEN_FOR = 600_000_000
_ODDS = random.SystemRandom()


_GRAVITY: dict[type, int] = {Well: 0, Unwell: 1, Throttled: 2, Refused: 3}


@dataclass(slots=True)
class Watch:
    """What one stroke has seen of its connection, and whether it should go on."""

    proven: bool = False
    answered: bool = False
    failures: int = 0
    seen: Health = field(default_factory=Well)

    def note(self, seen: Health, *, proof: bool) -> None:
        """Take in one answer; `proof` says that it settled a change, so the connection surely works."""
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
        return isinstance(self.seen, Throttled | Refused) or self.failures >= FAILURES_TO_OPEN


def is_probe(found: ConnectionHealth) -> bool:
    """Whether a call to this connection would be the probe of an open breaker: then one task is enough."""
    return found.breaker is not Breaker.CLOSED


def win_probe(ledger: Ledger, found: ConnectionHealth, seconds: float) -> bool:
    """Win, or not, the one probe; whoever wins has so many seconds for it before another may try."""
    now = ledger.now()
    return health.take_probe(ledger.database, found.name, now=now, until=now + int(seconds * 1_000_000))


def may_call(found: ConnectionHealth, now: int) -> bool:
    """Whether it is worth waking a worker for this connection."""
    if found.throttled_until > now:
        return False
    return found.breaker is Breaker.CLOSED or found.probe_at <= now


def is_proven(ledger: Ledger, bucket: Bucket, found: ConnectionHealth, watch: Watch) -> bool:
    """Whether a failure is about the change and not about the provider.

    It is if the connection settled something in this stroke, or did so lately and only few targets fail: a provider
    that answers everybody with "internal error" must not turn a backlog into dead letters.
    """
    if watch.proven:
        return True
    recently = found.well_at is not None and ledger.now() - found.well_at < _PROVEN_FOR
    return recently and found.breaker is Breaker.CLOSED and ledger.put_off(bucket, FAILURES_TO_OPEN) < FAILURES_TO_OPEN


def conclude(ledger: Ledger, before: ConnectionHealth, watch: Watch) -> None:
    """Write down what a stroke has learnt about its connection."""
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


def throttle(ledger: Ledger, name: str, seconds: float) -> None:
    """Let no process call a connection for so many seconds: its provider asked for it."""
    health.throttle(ledger.database, name, until=ledger.now() + int(seconds * 1_000_000))


def _too_many(ledger: Ledger, before: ConnectionHealth, watch: Watch) -> bool:
    if before.breaker is not Breaker.CLOSED or watch.failures >= FAILURES_TO_OPEN:
        return True
    return health.count_failures(ledger.database, before.name, watch.failures) >= FAILURES_TO_OPEN


def _open(ledger: Ledger, before: ConnectionHealth, breaker: Breaker, reason: str) -> None:
    first, longest = (15.0, 300.0) if breaker is Breaker.REFUSED else (1.0, 10.0)
    wait = min(longest, first * 2 ** min(before.trips, 10)) * _ODDS.uniform(0.5, 1.0)
    now = ledger.now()
    probe_at = now + int(wait * 1_000_000)
    health.open_breaker(ledger.database, before.name, breaker, reason, now=now, probe_at=probe_at)


def _close(ledger: Ledger, before: ConnectionHealth, watch: Watch) -> None:
    now = ledger.now()
    stale = before.well_at is None or now - before.well_at > _WELL_AGAIN_AFTER
    if (stale and watch.proven) or before.failures or before.breaker is not Breaker.CLOSED:
        health.close_breaker(ledger.database, before.name, proven_at=now if watch.proven else None)
