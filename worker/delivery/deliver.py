"""What a wake-up does: reserve permits, claim due customer tasks, call the provider, settle."""

from __future__ import annotations

import queue
import random
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import structlog

from consent.errors import LedgerUnavailable
from consent.ledger.ledger import Ledger
from consent.ledger.queue import breakers
from consent.ledger.queue.breakers import BucketHealth
from consent.ledger.queue.tasks import Attempt, CustomerTask, Settlement
from consent.outcome import Retry, Throttled, Unauthorized
from worker.delivery import breaker
from worker.delivery.bucket_context import BucketContext
from worker.delivery.calls import ClaimedBatch, ConcurrentCalls
from worker.delivery.loop import LoopThread
from worker.delivery.observations import Observations
from worker.delivery.retry import RetryPolicy
from worker.delivery.task_result import TaskResult
from worker.providers.contract import Answer, Request

SETTLE_EVERY_SECONDS = 0.5
SETTLE_AT_ONCE = 500
LONGEST_WINDOWS = 1.5
"""Reservation windows for which a delivery goes on claiming, at most."""

_LOOK_EVERY_SECONDS = 0.02
_BEFORE_LEASE_ENDS = 1.0
_UNWINDING_SECONDS = 5.0
_AGAIN_SECONDS = 0.25
PATIENCE_SECONDS = 45.0
"""For how long a delivery waits for a ledger that is away, at most, before it gives up what it has to write."""

_KEEP_EVERY_SECONDS = 1.0
_DOUBT = 3  # timeouts for which a call that timed out may still be at work on the other side
_log = structlog.get_logger()
T = TypeVar("T")


@dataclass(slots=True)
class Delivery:
    """One delivery of one connection, from the first reservation to the last settled task.

    It goes on claiming while calls are under way, for about a reservation window: the calls of one batch hide
    the database work of the next.
    """

    ledger: Ledger
    context: BucketContext
    loop: LoopThread
    policy: RetryPolicy
    lease_seconds: float
    most: int
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    observations: Observations = field(default_factory=Observations)
    _claimed: dict[int, CustomerTask] = field(default_factory=dict)
    _done: queue.SimpleQueue[TaskResult] = field(default_factory=queue.SimpleQueue)
    _unsettled: list[TaskResult] = field(default_factory=list)
    _paused: bool = False

    def run(self) -> bool:
        """Deliver what is due and may be sent within the reservation window; return whether more is due at once."""
        before = self._health()
        try:
            if (batch := self._take(before)) is None:
                return False
            self._deliver(batch, before)
        finally:
            self.context.rate_limiter.end_delivery(self.token)
            self._return_untouched()
        goes_on = not self.observations.stop or (self.observations.proven and self.observations.throttled is None)
        return goes_on and self.ledger.due(self.context.bucket, 1) > 0

    def _health(self) -> BucketHealth:
        return breakers.health_of(self.ledger.database, str(self.context.bucket))

    @property
    def _longest(self) -> float:
        """Seconds after which a delivery that holds the one probe is taken for dead, so that others may try."""
        return self.context.settings.timeout + self.context.rate_limiter.reservation_seconds + _BEFORE_LEASE_ENDS

    def _take(self, found: BucketHealth) -> ClaimedBatch | None:
        """Reserve and claim what can be delivered soon; return None if that is nothing."""
        if not breaker.may_call(found, self.ledger.now()) or not (wanted := self._wanted(found)):
            return None
        rate_limiter, asked = self.context.rate_limiter, self.context.permits_for(wanted)
        reservation = rate_limiter.reserve(asked, self.token)
        count = len(reservation.moments)
        if not count:
            return None
        if breaker.is_probe(found) and not breaker.win_probe(self.ledger, found, self._longest):
            rate_limiter.give_back(reservation, count)
            return None
        each, started = self.context.targets_per_call, time.monotonic()
        calls = count if count < asked else wanted
        doubt = _DOUBT * self.context.settings.timeout
        bucket, overlap = self.context.bucket, self.context.overlap
        limits = (self.token, self.lease_seconds, doubt, overlap)
        if breaker.is_probe(found):
            tasks = self.ledger.claim_another(bucket, found.suspects, *limits)
        else:
            tasks = self.ledger.claim(bucket, calls * each, *limits)
        self._claimed.update((task.target_id, task) for task in tasks)
        if not tasks:
            rate_limiter.give_back(reservation, count)
            return None
        plan = self.context.plan(tasks)
        rate_limiter.give_back(reservation, count - len(plan.series))
        if isinstance(plan.health, Unauthorized):
            self.observations.unfit = plan.health
        latest = self.context.settings.timeout + _BEFORE_LEASE_ENDS
        return ClaimedBatch(tasks, plan, reservation, started + self.lease_seconds - latest)

    def _return_untouched(self) -> None:
        """Give back what is still claimed because the delivery failed before its first call."""
        left = [Settlement(task, {}, tried=False) for task in self._claimed.values()]
        self._claimed.clear()
        with suppress(LedgerUnavailable):
            self.ledger.settle(self.token, left)

    def _wanted(self, found: BucketHealth) -> int:
        """Return how many calls to take on: no more than are due, one for a probe."""
        each = self.context.targets_per_call
        most = 1 if breaker.is_probe(found) else self.context.batch_size(self.most)
        return -(-self.ledger.due(self.context.bucket, most * each) // each)

    def _deliver(self, batch: ClaimedBatch, before: BucketHealth) -> None:
        started = time.monotonic()
        throttled = partial(self._throttled, before)
        delivery = ConcurrentCalls(
            self.context, self.observations, self.ledger.now, self._done.put, throttled, self._witness
        )
        work = self.loop.start(delivery.run())
        try:
            self._hand_over(delivery, batch)
            lost = self._attend(work, delivery, before)
        finally:
            work.cancel()
            delivery.ended.wait(_UNWINDING_SECONDS)
            self._give_back(before)
            breaker.conclude(self.ledger, before, self.observations)
        seconds = round(time.monotonic() - started, 3)
        _log.debug("delivery.done", bucket=str(self.context.bucket), lost=lost, seconds=seconds)

    def _hand_over(self, delivery: ConcurrentCalls, batch: ClaimedBatch | None) -> None:
        """Let a batch be delivered; None says that there will be no further one."""
        if batch is None:
            self.loop.loop.call_soon_threadsafe(delivery.close)
        else:
            self.loop.loop.call_soon_threadsafe(delivery.add, batch)

    def _attend(self, work: Future[None], delivery: ConcurrentCalls, before: BucketHealth) -> int:
        """Settle in groups and claim more while calls go on; return how many leases had been lost."""
        lost, settled_at, ends = 0, time.monotonic(), time.monotonic() + self._goes_on()
        size, is_open, kept = len(self._claimed), True, time.monotonic()
        while not work.done():
            if time.monotonic() - kept > _KEEP_EVERY_SECONDS:
                kept = time.monotonic()
                self.context.rate_limiter.keep_delivery(self.token)
            wait([work], timeout=_LOOK_EVERY_SECONDS)
            self._drain()
            if is_open and delivery.left <= size // 2:
                more = self._more(ends, before)
                self._hand_over(delivery, more)
                is_open, size = more is not None, len(more.tasks) if more else 0
            if len(self._unsettled) >= SETTLE_AT_ONCE or time.monotonic() - settled_at >= SETTLE_EVERY_SECONDS:
                lost, settled_at = lost + self._settle(before), time.monotonic()
        work.result()
        return lost

    def _goes_on(self) -> float:
        """Return for how many seconds this delivery claims more: deliveries that all ended as one would leave a gap."""
        return self.context.rate_limiter.reservation_seconds * random.uniform(0.5, LONGEST_WINDOWS)  # noqa: S311

    def _more(self, ends: float, before: BucketHealth) -> ClaimedBatch | None:
        if time.monotonic() >= ends or self.observations.stop or breaker.is_probe(before):
            return None
        try:
            found = self._health()
            return None if breaker.is_probe(found) else self._take(found)
        except LedgerUnavailable as error:
            _log.warning("delivery.no_more", bucket=str(self.context.bucket), reason=str(error))
            return None

    def _give_back(self, before: BucketHealth) -> None:
        """Settle the rest and give back whatever was not tried, however the delivery ended."""
        self._drain()
        self._settle(before)
        left = [Settlement(task, {}, tried=False) for task in self._claimed.values()]
        self._patiently(lambda: self.ledger.settle(self.token, left))
        self._claimed.clear()

    def _drain(self) -> None:
        while not self._done.empty():
            self._unsettled.append(self._done.get())

    def _settle(self, before: BucketHealth) -> int:
        """Write down what has been reported; return how many leases had been lost."""
        group, self._unsettled = self._unsettled, []
        if not group:
            return 0
        try:
            lost, settlements = self._patiently(lambda: self._write_down(group, before))
        except BaseException:
            self._unsettled = group + self._unsettled  # what was answered must not be taken for untried
            raise
        for one in group:
            self._claimed.pop(one.task.target_id, None)
        counted: set[str] = set()
        self._patiently(lambda: self.ledger.count_calls(settlements, counted))
        if lost:
            _log.warning("delivery.leases_lost", bucket=str(self.context.bucket), targets=lost)
        return lost

    def _write_down(self, group: Sequence[TaskResult], before: BucketHealth) -> tuple[int, list[Settlement]]:
        settlements = [self._settlement(one, before) for one in group]
        return self.ledger.settle(self.token, settlements), settlements

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

    def _settlement(self, one: TaskResult, before: BucketHealth) -> Settlement:
        counted = any(isinstance(outcome, Retry) and outcome.counts for outcome in one.outcomes.values())
        healthy = counted and breaker.is_proven(self.ledger, before, self.observations, one.task)
        outcomes = self.policy.decide(one.task, one.outcomes, healthy=healthy, own=self._own(one, before))
        wait_for = self.policy.put_off(one.task, outcomes)
        now = self.ledger.now()
        until = now + int(wait_for * 1_000_000) if wait_for else 0
        doubt = now + int(_DOUBT * self.context.settings.timeout * 1_000_000) if one.in_doubt else 0
        return Settlement(one.task, outcomes, tuple(one.attempts), until, bool(one.attempts), doubt)

    def _own(self, one: TaskResult, before: BucketHealth) -> frozenset[int]:
        """Return the changes whose bad answer says nothing of the bucket, because it serves others."""
        if one.suspicion is None:
            return frozenset()
        evidence = (one.task, one.suspicion.call, one.suspicion.seen)
        if not breaker.is_its_own(self.ledger, before, self.observations, *evidence):
            return frozenset()
        self.observations.excuse(one.task.target_id)
        return frozenset(one.suspicion.call.change_ids)

    def _witness(self, suspect: int) -> Request | None:
        """Return a read about the customer that was served last, if nothing else is left that could be a witness."""
        found = self._health()
        if found.served_id in (None, suspect) or self.ledger.due(self.context.bucket, 1):
            return None
        other = self.ledger.customer(found.served_id)
        return None if other is None else self.context.provider.witness(other, self.context.settings)

    def _throttled(self, before: BucketHealth, request: Request, answer: Answer, call: Attempt, asked: bool) -> bool:  # noqa: FBT001
        """Slow every process at once: the rate limiter those that reserve, the ledger those that come later.

        Return False, and slow no process, if only this customer draws that answer while others are served. Where the
        provider did not say for how long (`asked`), the first waits are short: then another customer is tried.
        """
        seconds = (answer.health.after if isinstance(answer.health, Throttled) else None) or breaker.THROTTLE_SECONDS
        self.observations.recent.note([task.target_id for task in request.tasks], served=False)
        try:
            if len(request.tasks) == 1 and request.tasks[0].tries:
                evidence = (request.tasks[0], call, answer.health)
                if breaker.is_its_own(self.ledger, before, self.observations, *evidence):
                    return False
            if self._paused and not asked:
                return True  # it was said to several calls at once
            if not asked:
                seconds = self.context.pause(seconds, before.trips)
            self._paused = True
            self.context.rate_limiter.push(seconds)
            breaker.throttle(self.ledger, self.context.bucket, seconds)
        except LedgerUnavailable as error:
            self.context.rate_limiter.push(seconds)
            _log.warning("throttle.not_noted", bucket=str(self.context.bucket), reason=str(error))
        return True
