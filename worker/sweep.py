"""Finding what is due and waking workers for it: what makes every lost wake-up harmless."""

from __future__ import annotations

import redis
import structlog

from consent.bucket import Bucket
from consent.errors import BrokerUnavailable, OptrelayError
from consent.ledger import health
from worker.breaker import may_call
from worker.wiring import Wiring

_log = structlog.get_logger()


def sweep(wiring: Wiring) -> int:
    """Look once at every connection; return how many wake-ups were sent.

    Also makes due what a producer that died had read whole. Raises LedgerUnavailable and BrokerUnavailable.
    """
    for import_id in wiring.ledger.unreleased():
        wiring.ledger.release(import_id)
    names = wiring.settings.connections
    return sum(
        _top_up(wiring, bucket) for name in names if _is_open(wiring, name) for bucket in wiring.ledger.buckets(name)
    )


def sweep_quietly(wiring: Wiring) -> None:
    """Sweep, and leave it to the next sweep if ledger or broker cannot be reached now."""
    try:
        sweep(wiring)
    except OptrelayError as error:
        _log.warning("sweep.failed", reason=str(error))


def _is_open(wiring: Wiring, name: str) -> bool:
    return may_call(health.health_of(wiring.ledger.database, name), wiring.ledger.now())


def _top_up(wiring: Wiring, bucket: Bucket) -> int:
    size = wiring.settings.stroke_size
    most = wiring.settings.connection(bucket.connection).max_strokes
    due = wiring.ledger.due(bucket, most * size)
    if not due:
        return 0
    wanted = min(most, -(-due // size)) - _under_way(wiring, bucket)
    if wanted > 0:
        wiring.wakeups.send(bucket, wanted)
    return max(0, wanted)


def _under_way(wiring: Wiring, bucket: Bucket) -> int:
    """Return the strokes that are under way or asked for; the queue is the connection's, so others may count too."""
    try:
        return wiring.wakeups.waiting(bucket.connection) + wiring.pacer(bucket).strokes()
    except redis.RedisError as error:
        raise BrokerUnavailable("the broker cannot be reached") from error
