"""What a wake-up does: reserve pace, claim due customer tasks, deliver, settle."""

from __future__ import annotations

import queue
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import structlog

from consent.ledger import health
from consent.ledger.health import ConnectionHealth
from consent.ledger.ledger import Ledger
from consent.ledger.work import CustomerTask, Settlement
from worker import breaker
from worker.connection import LiveConnection
from worker.delivery import Delivered, Delivery
from worker.loop import LoopThread
from worker.pacing import Reservation
from worker.retrying import RetryPolicy

SETTLE_EVERY_SECONDS = 0.25
SETTLE_AT_ONCE = 200
_BEFORE_LEASE_ENDS = 1.0
_UNWINDING_SECONDS = 5.0
_DOUBT = 3  # timeouts for which a call that timed out may still be at work on the other side
_log = structlog.get_logger()


@dataclass(slots=True)
class Stroke:
    """One stroke of one connection, from the reservation to the last settled task."""

    ledger: Ledger
    connection: LiveConnection
    loop: LoopThread
    policy: RetryPolicy
    lease_seconds: float
    most: int
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    watch: breaker.Watch = field(default_factory=breaker.Watch)
    _settled: set[bytes] = field(default_factory=set)

    def run(self) -> bool:
        """Deliver what is due and may be sent within the horizon; return whether more is due at once."""
        before = health.health_of(self.ledger.database, self.connection.name)
        if not breaker.may_call(before, self.ledger.now()) or not (wanted := self._wanted(before)):
            return False
        reservation = self.connection.pacer.reserve(wanted, self.token, self._longest)
        if not reservation.moments:
            return False
        try:
            self._strike(reservation, before)
        finally:
            self.connection.pacer.end_stroke(self.token)
        return not self.watch.stop and self.ledger.due(self.connection.bucket, 1) > 0

    @property
    def _longest(self) -> float:
        """Seconds after which a stroke that has not ended is taken for dead, so that others may take its place."""
        return self.connection.settings.timeout + self.connection.pacer.horizon + _BEFORE_LEASE_ENDS

    def _wanted(self, before: ConnectionHealth) -> int:
        """Return how many call slots to ask for: no more than are due, one for a probe."""
        each = self.connection.targets_per_call
        calls = -(-self.ledger.due(self.connection.bucket, self.most * each) // each)
        return min(calls, 1 if breaker.is_probe(before) else self.connection.portion(self.most))

    def _strike(self, reservation: Reservation, before: ConnectionHealth) -> None:
        started = time.monotonic()
        count = len(reservation.moments)
        if breaker.is_probe(before) and not breaker.win_probe(self.ledger, before, self._longest):
            self.connection.pacer.give_back(reservation, count)
            return
        each = self.connection.targets_per_call
        tasks = self.ledger.claim(self.connection.bucket, count * each, self.token, self.lease_seconds)
        self.connection.pacer.give_back(reservation, count - -(-len(tasks) // each))
        if not tasks:
            return
        done: queue.SimpleQueue[Delivered] = queue.SimpleQueue()
        latest = self.connection.settings.timeout + _BEFORE_LEASE_ENDS
        deadline = started + self.lease_seconds - latest
        delivery = Delivery(
            self.connection, reservation, self.watch, deadline, self.ledger.now, done.put, self._throttled
        )
        plan = self.connection.provider.plan(tasks, self.connection.settings)
        work = self.loop.start(delivery.run(tasks, plan))
        try:
            lost = self._settle_while(work, done, before)
        finally:
            work.cancel()
            delivery.ended.wait(_UNWINDING_SECONDS)
            self._give_back(done, before, tasks)
            breaker.conclude(self.ledger, before, self.watch)
        seconds = round(time.monotonic() - started, 3)
        _log.debug("stroke.done", bucket=str(self.connection.bucket), tasks=len(tasks), lost=lost, seconds=seconds)

    def _settle_while(self, work: Future[None], done: queue.SimpleQueue[Delivered], before: ConnectionHealth) -> int:
        """Settle in small groups while calls go on; return how many leases had been lost."""
        lost = 0
        while not work.done():
            lost += self._settle(_group(done, work), before)
        work.result()
        return lost

    def _give_back(
        self, done: queue.SimpleQueue[Delivered], before: ConnectionHealth, tasks: Sequence[CustomerTask]
    ) -> None:
        """Settle the rest and give back whatever was not tried, however the stroke ended."""
        self._settle(_rest(done), before)
        left = [Settlement(task, {}, tried=False) for task in tasks if task.target_key not in self._settled]
        self.ledger.settle(self.token, left)

    def _settle(self, group: Sequence[Delivered], before: ConnectionHealth) -> int:
        healthy = breaker.is_proven(self.ledger, self.connection.bucket, before, self.watch)
        settlements = [self._settlement(one, healthy=healthy) for one in group]
        lost = self.ledger.settle(self.token, settlements)
        self._settled.update(one.task.target_key for one in group)
        if lost:
            _log.warning("stroke.leases_lost", bucket=str(self.connection.bucket), targets=lost)
        return lost

    def _settlement(self, one: Delivered, *, healthy: bool) -> Settlement:
        outcomes = self.policy.decide(one.task, one.outcomes, healthy=healthy)
        wait = self.policy.put_off(one.task, outcomes)
        now = self.ledger.now()
        until = now + int(wait * 1_000_000) if wait else 0
        doubt = now + int(_DOUBT * self.connection.settings.timeout * 1_000_000) if one.doubtful else 0
        return Settlement(one.task, outcomes, tuple(one.attempts), until, bool(one.attempts), doubt)

    def _throttled(self, seconds: float) -> None:
        """Slow every process at once: the pace for those that reserve, the ledger for those that come later."""
        self.connection.pacer.push(seconds)
        breaker.throttle(self.ledger, self.connection.name, seconds)


def _group(done: queue.SimpleQueue[Delivered], work: Future[None]) -> list[Delivered]:
    """Collect what is reported within a moment, or as much as makes a good transaction."""
    found: list[Delivered] = []
    until = time.monotonic() + SETTLE_EVERY_SECONDS
    while len(found) < SETTLE_AT_ONCE and (left := until - time.monotonic()) > 0:
        try:
            found.append(done.get(timeout=min(left, 0.02)))
        except queue.Empty:
            if work.done():
                break
    return found


def _rest(done: queue.SimpleQueue[Delivered]) -> list[Delivered]:
    found: list[Delivered] = []
    while not done.empty():
        found.append(done.get())
    return found
