"""Finding what is due and waking workers for it: what makes every lost wake-up harmless."""

from __future__ import annotations

import redis
import structlog

from consent.errors import BrokerUnavailable, OptrelayError
from consent.ledger import health
from consent.ledger.ledger import Ledger
from consent.settings import Settings
from consent.wakeups import WakeUps
from worker.breaker import may_call
from worker.wiring import Wiring

_log = structlog.get_logger()


def sweep(wiring: Wiring) -> int:
    """Look once at every connection; return how many wake-ups were sent.

    Also makes due what a producer that died had read whole. Raises LedgerUnavailable and BrokerUnavailable.
    """
    for import_id in wiring.ledger.unreleased():
        wiring.ledger.release(import_id)
    return sum(_top_up(wiring, name) for name in wiring.settings.connections)


def sweep_quietly(wiring: Wiring) -> None:
    """Sweep, and leave it to the next sweep if ledger or broker cannot be reached now."""
    try:
        sweep(wiring)
    except OptrelayError as error:
        _log.warning("sweep.failed", reason=str(error))


def _top_up(wiring: Wiring, name: str) -> int:
    ledger: Ledger = wiring.ledger
    settings: Settings = wiring.settings
    if not may_call(health.health_of(ledger.database, name), ledger.now()):
        return 0
    most = settings.connection(name).max_strokes
    due = ledger.due(name, most * settings.stroke_size)
    if not due:
        return 0
    wanted = min(most, -(-due // settings.stroke_size)) - _under_way(wiring, wiring.wakeups, name)
    if wanted > 0:
        wiring.wakeups.send(name, wanted)
    return max(0, wanted)


def _under_way(wiring: Wiring, wakeups: WakeUps, name: str) -> int:
    try:
        return wakeups.waiting(name) + wiring.pacer(name).strokes()
    except redis.RedisError as error:
        raise BrokerUnavailable("the broker cannot be reached") from error
