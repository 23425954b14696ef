"""Finding what is due and waking workers for it: what makes every lost wake-up harmless."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import redis
import structlog

from consent.broker.message import CUSTOMERS_A_WAKE_UP
from consent.change import Bucket
from consent.errors import BrokerUnavailable, LedgerOutdated, OptrelayError
from consent.imports import PublishProgress
from worker.bootstrap import WorkerContext
from worker.delivery.breaker import may_call
from worker.heartbeat import SWEEP_REPORT
from worker.notices import look

_log = structlog.get_logger()
_DAY = 86_400_000_000  # microseconds
_FUSE_DAYS = 30
"""For so long what a fuse has counted is kept, if it did not trip."""


ABANDONED_SECONDS = 5.0
"""After so long without a step, the producer of an import has died: a step takes a fifth of a second."""


@dataclass(slots=True)
class Abandoned:
    """Tells the imports whose producer has died from those whose producer is at work: two would be in each other's way.

    A process that sweeps again and again keeps one; it remembers how far each import had come.
    """

    seen: dict[str, tuple[PublishProgress, float]] = field(default_factory=dict)

    def among(self, unreleased: Mapping[str, PublishProgress]) -> list[str]:
        """Return those of the imports that have not come any further for a while."""
        now = time.monotonic()
        before, self.seen = self.seen, {}
        for import_id, place in unreleased.items():
            known = before.get(import_id)
            self.seen[import_id] = known if known is not None and known[0] == place else (place, now)
        return [import_id for import_id, (_, since) in self.seen.items() if now - since >= ABANDONED_SECONDS]


def sweep(worker_context: WorkerContext, abandoned: Abandoned | None = None) -> int:
    """Look once at every bucket; return how many wake-ups were sent.

    Also publishes what a producer that died had read whole; without a memory of what is `abandoned`, everything that
    was read whole. Raises LedgerUnavailable, LedgerOutdated and BrokerUnavailable.
    """
    worker_context.ledger.maintenance.check_revision()
    _report(worker_context)
    worker_context.ledger.fuses.work_off()
    sent = wake_all(worker_context)
    _look_each_minute(worker_context)
    worker_context.ledger.deadlines.compact()
    unreleased = worker_context.ledger.intake.unpublished()
    for import_id in unreleased if abandoned is None else abandoned.among(unreleased):
        awake = _Rounds(worker_context)
        worker_context.ledger.intake.publish(import_id, awake.go_on)
        sent += awake.sent + wake_all(worker_context)
    return sent


_REPORTED_SECONDS = 600
_LOOK_SECONDS = 60.0


def _report(worker_context: WorkerContext) -> None:
    """Say at the broker that a sweep runs; whether the broker is away shows when workers are woken."""
    with suppress(redis.RedisError):
        kept = max(_REPORTED_SECONDS, int(3 * worker_context.settings.sweep_seconds))
        worker_context.redis.set(SWEEP_REPORT, int(time.time()), ex=kept)


def _look_each_minute(worker_context: WorkerContext) -> None:
    """Add up what has happened since, for as long as a sweep may last; look for what people must know; forget."""
    if (now := time.monotonic()) >= worker_context.look_at:
        worker_context.ledger.counters.add_up(worker_context.settings.sweep_seconds)
        worker_context.ledger.fuses.close_those_over()
        look(worker_context.settings, worker_context.ledger)
        worker_context.notice_sender.wake()
        _forget_what_is_old(worker_context)
        worker_context.look_at = now + _LOOK_SECONDS


def _forget_what_is_old(worker_context: WorkerContext) -> None:
    """Remove what rejected events said, outcomes for those who follow them, and notices, once their time is over."""
    settings, ledger = worker_context.settings, worker_context.ledger
    ledger.queue.forget_doubts()
    ledger.rejected_events.purge(int(ledger.now() - settings.keep_rejected_events * _DAY))
    ledger.outcome_log.purge(int(ledger.now() - settings.keep_outcomes * _DAY))
    ledger.notices.purge(int(ledger.now() - settings.keep_notices * _DAY))
    ledger.fuses.forget(int(ledger.now() - _FUSE_DAYS * _DAY))


@dataclass(slots=True)
class _Rounds:
    """Goes on waking workers while something long is done."""

    worker_context: WorkerContext
    sent: int = 0
    last: float = field(default_factory=time.monotonic)

    def go_on(self, _: int) -> None:
        """Wake workers if the last time is a sweep ago."""
        if time.monotonic() - self.last >= self.worker_context.settings.sweep_seconds:
            self.sent += wake_all(self.worker_context)
            self.last = time.monotonic()


def wake_all(worker_context: WorkerContext) -> int:
    """Wake workers for every bucket with something due; return how many wake-ups were sent."""
    return sum(_wake(worker_context, name) for name in worker_context.settings.connections)


def sweep_quietly(worker_context: WorkerContext, abandoned: Abandoned) -> None:
    """Sweep, and leave it to the next sweep if ledger or broker cannot be reached now.

    Ends the process if the ledger has been migrated under it: another version must go on.
    """
    try:
        sweep(worker_context, abandoned)
    except LedgerOutdated as error:
        raise SystemExit(f"error: {error}") from None
    except OptrelayError as error:
        _log.warning("sweep.failed", reason=str(error))


def _wake(worker_context: WorkerContext, connection: str) -> int:
    """Wake workers for each bucket of a connection that may be called, whatever its neighbours do."""
    ledger = worker_context.ledger
    found, now = ledger.queries.buckets(connection), ledger.now()
    callable_ = [bucket for bucket in found if may_call(ledger.breakers.health_of(str(bucket)), now)]
    waiting = worker_context.wakeups.waiting_by_bucket(connection) if callable_ else {}
    return sum(_top_up(worker_context, bucket, waiting.get(bucket, 0)) for bucket in callable_)


def _top_up(worker_context: WorkerContext, bucket: Bucket, waiting: int) -> int:
    """Wake as many workers for a bucket as it has use for, beside those that were `asked` and those at work."""
    size = min(worker_context.settings.batch_customers, CUSTOMERS_A_WAKE_UP)
    most = worker_context.settings.connection(bucket.connection).max_batches
    due = worker_context.ledger.queue.due(bucket, most * size)
    if not due:
        return 0
    wanted = min(most, -(-due // size)) - waiting
    if wanted > 0:
        wanted -= _under_way(worker_context, bucket, wanted)
    if wanted > 0:
        worker_context.wakeups.send(bucket, wanted)
    return max(0, wanted)


def _under_way(worker_context: WorkerContext, bucket: Bucket, most: int) -> int:
    """Return how many deliveries are at work, or `most` if another one would find no free permit."""
    rate_limiter = worker_context.rate_limiter(bucket)
    try:
        return most if rate_limiter.soonest() > rate_limiter.reservation_seconds else rate_limiter.deliveries()
    except redis.RedisError as error:
        raise BrokerUnavailable("the broker cannot be reached") from error
