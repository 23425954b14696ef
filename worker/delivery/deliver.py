"""What a wake-up does: reserve permits, claim due customer tasks, call the provider, settle.

A delivery is a pipeline. It claims the next batch while the calls of earlier ones are under way, and settles each
customer task soon after its calls have ended: so it does not wait for its slowest call before it makes the next one.
"""

from __future__ import annotations

import asyncio
import queue
import random
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from consent.errors import LedgerUnavailable
from consent.ledger.ledger import Ledger
from consent.ledger.queue.breakers import BucketHealth
from consent.ledger.queue.tasks import CustomerTask, Settlement
from consent.outcome import Unauthorized
from worker.delivery import breaker
from worker.delivery.breaker import Observations
from worker.delivery.bucket_context import BucketContext
from worker.delivery.calls import ClaimedBatch, ConcurrentCalls
from worker.delivery.fuse_check import FuseCheck
from worker.delivery.permits import Permits
from worker.delivery.results import DOUBT, Retries, RetryPolicy, TaskResult
from worker.delivery.throttling import Throttling
from worker.delivery.traces import DeliveryTrace
from worker.providers.contract import Plan

SETTLE_EVERY_SECONDS = 0.5
SETTLE_AT_ONCE = 500
LONGEST_WINDOWS = 1.5
"""Reservation windows after which a delivery looks, at the latest, whether it may go on claiming."""

LONGEST_SECONDS = 30.0
"""For how long a delivery goes on claiming, at most, and the window that it is in then."""

_LOOK_EVERY_SECONDS = 0.02
_BEFORE_LEASE_ENDS = 1.0
_UNWINDING_SECONDS = 5.0
_AGAIN_SECONDS, _CLAIM_AGAIN_SECONDS, _AWAY_COUNTS = 0.25, 0.1, 0.98
PATIENCE_SECONDS = 45.0
"""For how long a delivery waits for a ledger that is away, at most, before it gives up what it has to write."""

_KEEP_EVERY_SECONDS = 1.0
_log = structlog.get_logger()
T = TypeVar("T")


@dataclass(slots=True)
class Delivery:
    """One delivery of one connection, from the first reservation to the last settled task.

    It goes on claiming while calls are under way, window by window, each about as long as a reservation window, for as
    long as `goes_on` says at the end of one that its process is not needed elsewhere. What a window has shown of the
    bucket is written down at its end, as if the delivery had ended and another one begun.
    """

    ledger: Ledger
    context: BucketContext
    loop: asyncio.AbstractEventLoop
    policy: RetryPolicy
    lease_seconds: float
    most: int
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    observations: Observations = field(default_factory=Observations)
    goes_on: Callable[[], bool] = lambda: False
    trace: DeliveryTrace | None = None
    _claimed: dict[int, CustomerTask] = field(default_factory=dict)
    _done: queue.SimpleQueue[TaskResult] = field(default_factory=queue.SimpleQueue)
    _unsettled: list[TaskResult] = field(default_factory=list)
    _permits: Permits = field(init=False)
    _fuses: FuseCheck = field(init=False)
    _retries: Retries = field(init=False)
    _throttling: Throttling = field(init=False)

    def run(self) -> bool:
        """Deliver what is due and may be sent within the reservation window; return whether more is due at once."""
        with self.trace or nullcontext():
            before = self._health()
            self._permits = Permits(self.context, lambda: self.observations.stop)
            self._fuses = FuseCheck(self.ledger, self.context, self.loop)
            self._retries = Retries(self.ledger, self.context, self.policy, self.observations, before)
            self._throttling = Throttling(self.ledger, self.context, self.observations, before)
            try:
                if (batch := self._take(before)) is None:
                    return False
                self._deliver(batch)
            finally:
                self.context.rate_limiter.end_delivery(self.token)
                self._return_untouched()
            goes_on = not self.observations.stop or (self.observations.proven and self.observations.throttled is None)
            return goes_on and self.ledger.queue.due(self.context.bucket, 1) > 0

    def _health(self) -> BucketHealth:
        return self.ledger.breakers.health_of(str(self.context.bucket))

    def _take(self, found: BucketHealth) -> ClaimedBatch | None:
        """Reserve and claim what can be delivered soon; return None if that is nothing."""
        if not breaker.may_call(found, self.ledger.now()) or not (wanted := self._wanted(found)):
            return None
        rate_limiter, asked = self.context.rate_limiter, self._permits.reserve_for(wanted)
        reservation = rate_limiter.reserve(asked, self.token)
        count = len(reservation.moments)
        if not count:
            return None
        if found.is_open and not breaker.win_probe(self.ledger, found, self.context.longest_probe):
            rate_limiter.give_back(reservation, count)
            return None
        each, started = self.context.targets_per_call, time.monotonic()
        calls = count if count < asked else wanted
        doubt = DOUBT * self.context.settings.timeout
        lease, overlap = (self.token, self.lease_seconds, doubt), self.context.overlap
        limit, suspects = (1, found.suspects) if found.is_open else (calls * each, None)
        tasks = self.ledger.queue.claim(self.context.bucket, limit, *lease, overlap=overlap, suspects=suspects)
        self._claimed.update((task.target_id, task) for task in tasks)
        if not tasks:
            rate_limiter.give_back(reservation, count)
            return None
        if self.trace is not None:
            self.trace.note_batch(tasks)
        plan = self._plan(tasks)
        if (unused := count - len(plan.series)) > 0:
            rate_limiter.give_back(reservation, unused)
        if isinstance(plan.health, Unauthorized):
            self.observations.unfit = plan.health
        latest = started + self.lease_seconds - self.context.settings.timeout - _BEFORE_LEASE_ENDS
        return ClaimedBatch(tasks, plan, reservation, latest)

    def _plan(self, tasks: Sequence[CustomerTask]) -> Plan:
        try:
            return self.context.provider.plan(tasks, self.context.settings)
        except Exception as error:  # noqa: BLE001 - whatever it is, its neighbours must not suffer
            return self.context.plan_apart(tasks, error)

    def _return_untouched(self) -> None:
        """Give back what is still claimed because the delivery failed before its first call."""
        left = [Settlement(task, {}, tried=False) for task in self._claimed.values()]
        self._claimed.clear()
        with suppress(LedgerUnavailable):
            self.ledger.queue.settle(self.token, left)

    def _wanted(self, found: BucketHealth) -> int:
        """Return how many calls to take on: no more than are due, one for a probe."""
        each = self.context.targets_per_call
        most = 1 if found.is_open else self._permits.batch_size(self.most)
        return -(-self.ledger.queue.due(self.context.bucket, most * each) // each)

    def _deliver(self, batch: ClaimedBatch) -> None:
        started = time.monotonic()
        calls = ConcurrentCalls(
            *(self.context, self._permits, self.observations, self._retries, self._throttling, self._fuses),
            *(self.ledger.now, self._done.put, self.trace),
        )
        work = asyncio.run_coroutine_threadsafe(calls.run(), self.loop)
        try:
            self._fuses.read_harmless(calls.reads_well)
            self.loop.call_soon_threadsafe(calls.add, batch)
            self._attend(work, calls)
        except Exception:
            self._let_end(work, calls, started)
            raise
        finally:
            work.cancel()
            self._give_back(calls)
            self._conclude()
        _log.debug("delivery.done", bucket=str(self.context.bucket), seconds=round(time.monotonic() - started, 3))

    def _attend(self, work: Future[None], calls: ConcurrentCalls) -> None:
        """Settle in groups and claim more while calls go on."""
        started = settled_at = kept = now = time.monotonic()
        claim_at, ends, size, is_open, away = started, started + self._window(), len(self._claimed), True, 0.0
        while not work.done():
            wait([work], timeout=_LOOK_EVERY_SECONDS)
            before, now, was_open = now, time.monotonic(), is_open
            away = max(now - before, _AWAY_COUNTS * away)  # what is claimed has to last while the ledger is waited for
            if now - kept > _KEEP_EVERY_SECONDS:
                kept = now
                self.context.rate_limiter.keep_delivery(self.token)
            self._drain()
            if is_open and now >= ends:
                ends, is_open = now + self._window(), now < started + LONGEST_SECONDS and self._begins_window()
            if is_open and now >= claim_at and (calls.left <= size // 2 or calls.left <= calls.called_in(away, size)):
                if (more := self._more()) is not None:
                    self.loop.call_soon_threadsafe(calls.add, more)
                    size = len(more.tasks)
                else:
                    claim_at, is_open = now + _CLAIM_AGAIN_SECONDS, calls.is_busy and not self._has_to_end()
            if was_open and not is_open:
                self.loop.call_soon_threadsafe(calls.add, None)
            hurries = len(self._unsettled) >= SETTLE_AT_ONCE or bool(self._fuses.suspects)
            if hurries or now - settled_at >= SETTLE_EVERY_SECONDS:
                self._settle()
                settled_at = time.monotonic()
                self._fuses.read_harmless(calls.reads_well)
        self._fuses.finish()
        work.result()

    def _let_end(self, work: Future[None], calls: ConcurrentCalls, started: float) -> None:
        """Begin no further call, and let those end that are under way: whose is cut off would wait for a minute.

        Where all must have ended it is Celery that gives us up, and kills us in a moment: then nothing is waited for.
        """
        self.observations.failed = True
        self.loop.call_soon_threadsafe(calls.add, None)
        latest = started + LONGEST_SECONDS + self.context.rate_limiter.reservation_seconds + self.lease_seconds
        wait([work], timeout=max(0.0, min(self.context.settings.timeout, latest - time.monotonic())))

    def _window(self) -> float:
        """Return how many seconds a window lasts: deliveries that all ended as one would leave a gap."""
        return self.context.rate_limiter.reservation_seconds * random.uniform(0.5, LONGEST_WINDOWS)  # noqa: S311

    def _has_to_end(self) -> bool:
        return self.observations.stop or self._retries.before.is_open

    def _begins_window(self) -> bool:
        """Write down what the window that is over has shown; return whether another one may begin."""
        try:
            if self._has_to_end() or not self.goes_on():
                return False
            self._settle()
            self._conclude()
            self._retries.before = self._throttling.before = self._health()
        except LedgerUnavailable as error:
            _log.warning("delivery.no_more", bucket=str(self.context.bucket), reason=str(error))
            return False
        self.loop.call_soon_threadsafe(self.observations.begin_window)
        return not self._has_to_end()

    def _conclude(self) -> None:
        """Write down what has been learnt of the bucket."""
        breaker.conclude(self.ledger, self._retries.before, self.observations)

    def _more(self) -> ClaimedBatch | None:
        if self._has_to_end():
            return None
        try:
            found = self._health()
            return None if found.is_open else self._take(found)
        except LedgerUnavailable as error:
            _log.warning("delivery.no_more", bucket=str(self.context.bucket), reason=str(error))
            return None

    def _give_back(self, calls: ConcurrentCalls) -> None:
        """Settle the rest and, if all calls have ended and been reported soon, give back whatever was not tried."""
        try:
            ended = calls.ended.wait(_UNWINDING_SECONDS)
            self._drain()
            self._settle()
            left = [Settlement(task, {}, tried=False) for task in self._claimed.values() if ended]
            self._patiently(lambda: self.ledger.queue.settle(self.token, left))
        finally:
            self._claimed.clear()  # what is left stays under lease: it may have been called

    def _drain(self) -> None:
        while not self._done.empty():
            self._unsettled.append(self._done.get())

    def _settle(self) -> None:
        """Write down what has been reported."""
        if suspects := self._fuses.suspects:
            self._drain()  # what made them so has been reported
        group, self._unsettled = self._unsettled, []
        if not group:
            return
        try:
            lost, settlements = self._patiently(lambda: self._write_down(group))
        except BaseException:
            self._unsettled = group + self._unsettled  # what was answered must not be taken for untried
            raise
        for one in group:
            self._claimed.pop(one.task.target_id, None)
        self._fuses.follow(settlements, suspects, self._claimed.values())
        counted: set[str] = set()
        self._patiently(lambda: self.ledger.queue.count_calls(settlements, counted))
        if lost:
            _log.warning("delivery.leases_lost", bucket=str(self.context.bucket), targets=lost)

    def _write_down(self, group: Sequence[TaskResult]) -> tuple[int, list[Settlement]]:
        settlements = [self._retries.settlement(one) for one in group]
        return self.ledger.queue.settle(self.token, settlements, self._fuses.counter), settlements

    def _patiently(self, work: Callable[[], T]) -> T:
        """Do it; while the ledger is away, wait for it, a lease at most: what was answered is not forgotten."""
        until = time.monotonic() + min(self.lease_seconds, PATIENCE_SECONDS)
        while True:
            try:
                return work()
            except LedgerUnavailable:
                if time.monotonic() > until:
                    raise
                time.sleep(_AGAIN_SECONDS)
