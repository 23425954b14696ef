"""What a wake-up does: reserve pace, claim due customer tasks, deliver, settle."""

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
from consent.ledger import health
from consent.ledger.health import BucketHealth
from consent.ledger.ledger import Ledger
from consent.ledger.work import Attempt, CustomerTask, Settlement
from consent.outcome import Refused, Throttled, TryLater
from worker import breaker
from worker.connection import LiveConnection
from worker.delivery import Delivered, Delivery, Portion
from worker.loop import LoopThread
from worker.providers.contract import Answer, Request
from worker.retrying import RetryPolicy

SETTLE_EVERY_SECONDS = 0.5
SETTLE_AT_ONCE = 500
LONGEST = 1.5
"""Horizons for which a stroke goes on claiming, at most."""

_LOOK_EVERY_SECONDS = 0.02
_BEFORE_LEASE_ENDS = 1.0
_UNWINDING_SECONDS = 5.0
_AGAIN_SECONDS = 0.25
PATIENCE_SECONDS = 45.0
"""For how long a stroke waits for a ledger that is away, at most, before it gives up what it has to write."""

_KEEP_EVERY_SECONDS = 1.0
_DOUBT = 3  # timeouts for which a call that timed out may still be at work on the other side
_log = structlog.get_logger()
T = TypeVar("T")


@dataclass(slots=True)
class Stroke:
    """One stroke of one connection, from the first reservation to the last settled task.

    It goes on claiming while calls are under way, for about a horizon: the calls of one portion hide the database
    work of the next.
    """

    ledger: Ledger
    connection: LiveConnection
    loop: LoopThread
    policy: RetryPolicy
    lease_seconds: float
    most: int
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    watch: breaker.Watch = field(default_factory=breaker.Watch)
    _claimed: dict[int, CustomerTask] = field(default_factory=dict)
    _done: queue.SimpleQueue[Delivered] = field(default_factory=queue.SimpleQueue)
    _unsettled: list[Delivered] = field(default_factory=list)
    _paused: bool = False

    def run(self) -> bool:
        """Deliver what is due and may be sent within the horizon; return whether more is due at once."""
        before = self._health()
        try:
            if (portion := self._take(before)) is None:
                return False
            self._strike(portion, before)
        finally:
            self.connection.pacer.end_stroke(self.token)
            self._return_untouched()
        goes_on = not self.watch.stop or (self.watch.proven and self.watch.throttled is None)
        return goes_on and self.ledger.due(self.connection.bucket, 1) > 0

    def _health(self) -> BucketHealth:
        return health.health_of(self.ledger.database, str(self.connection.bucket))

    @property
    def _longest(self) -> float:
        """Seconds after which a stroke that holds the one probe is taken for dead, so that others may try."""
        return self.connection.settings.timeout + self.connection.pacer.horizon + _BEFORE_LEASE_ENDS

    def _take(self, found: BucketHealth) -> Portion | None:
        """Reserve and claim what can be delivered soon; return None if that is nothing."""
        if not breaker.may_call(found, self.ledger.now()) or not (wanted := self._wanted(found)):
            return None
        pacer, asked = self.connection.pacer, self.connection.slots_for(wanted)
        reservation = pacer.reserve(asked, self.token)
        count = len(reservation.moments)
        if not count:
            return None
        if breaker.is_probe(found) and not breaker.win_probe(self.ledger, found, self._longest):
            pacer.give_back(reservation, count)
            return None
        each, started = self.connection.targets_per_call, time.monotonic()
        calls = count if count < asked else wanted
        doubt = _DOUBT * self.connection.settings.timeout
        bucket, overlap = self.connection.bucket, self.connection.overlap
        limits = (self.token, self.lease_seconds, doubt, overlap)
        if breaker.is_probe(found):
            tasks = self.ledger.claim_another(bucket, found.suspects, *limits)
        else:
            tasks = self.ledger.claim(bucket, calls * each, *limits)
        self._claimed.update((task.target_id, task) for task in tasks)
        if not tasks:
            pacer.give_back(reservation, count)
            return None
        plan = self.connection.plan(tasks)
        pacer.give_back(reservation, count - len(plan.series))
        if isinstance(plan.health, Refused):
            self.watch.unfit = plan.health
        latest = self.connection.settings.timeout + _BEFORE_LEASE_ENDS
        return Portion(tasks, plan, reservation, started + self.lease_seconds - latest)

    def _return_untouched(self) -> None:
        """Give back what is still claimed because the stroke failed before it could begin; else its lease runs out."""
        left = [Settlement(task, {}, tried=False) for task in self._claimed.values()]
        self._claimed.clear()
        with suppress(LedgerUnavailable):
            self.ledger.settle(self.token, left)

    def _wanted(self, found: BucketHealth) -> int:
        """Return how many calls to take on: no more than are due, one for a probe."""
        each = self.connection.targets_per_call
        most = 1 if breaker.is_probe(found) else self.connection.portion(self.most)
        return -(-self.ledger.due(self.connection.bucket, most * each) // each)

    def _strike(self, portion: Portion, before: BucketHealth) -> None:
        started = time.monotonic()
        throttled = partial(self._throttled, before)
        delivery = Delivery(self.connection, self.watch, self.ledger.now, self._done.put, throttled, self._witness)
        work = self.loop.start(delivery.run())
        try:
            self._hand_over(delivery, portion)
            lost = self._attend(work, delivery, before)
        finally:
            work.cancel()
            delivery.ended.wait(_UNWINDING_SECONDS)
            self._give_back(before)
            breaker.conclude(self.ledger, before, self.watch)
        seconds = round(time.monotonic() - started, 3)
        _log.debug("stroke.done", bucket=str(self.connection.bucket), lost=lost, seconds=seconds)

    def _hand_over(self, delivery: Delivery, portion: Portion | None) -> None:
        """Let a portion be delivered; None says that there will be no further one."""
        if portion is None:
            self.loop.loop.call_soon_threadsafe(delivery.close)
        else:
            self.loop.loop.call_soon_threadsafe(delivery.add, portion)

    def _attend(self, work: Future[None], delivery: Delivery, before: BucketHealth) -> int:
        """Settle in groups and claim more while calls go on; return how many leases had been lost."""
        lost, settled_at, ends = 0, time.monotonic(), time.monotonic() + self._goes_on()
        size, is_open, kept = len(self._claimed), True, time.monotonic()
        while not work.done():
            if time.monotonic() - kept > _KEEP_EVERY_SECONDS:
                kept = time.monotonic()
                self.connection.pacer.keep_stroke(self.token)
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
        """Return for how many seconds this stroke claims more: strokes that all ended as one would leave a gap."""
        return self.connection.pacer.horizon * random.uniform(0.5, LONGEST)  # noqa: S311

    def _more(self, ends: float, before: BucketHealth) -> Portion | None:
        if time.monotonic() >= ends or self.watch.stop or breaker.is_probe(before):
            return None
        try:
            found = self._health()
            return None if breaker.is_probe(found) else self._take(found)
        except LedgerUnavailable as error:
            _log.warning("stroke.no_more", bucket=str(self.connection.bucket), reason=str(error))
            return None

    def _give_back(self, before: BucketHealth) -> None:
        """Settle the rest and give back whatever was not tried, however the stroke ended."""
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
            _log.warning("stroke.leases_lost", bucket=str(self.connection.bucket), targets=lost)
        return lost

    def _write_down(self, group: Sequence[Delivered], before: BucketHealth) -> tuple[int, list[Settlement]]:
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

    def _settlement(self, one: Delivered, before: BucketHealth) -> Settlement:
        counted = any(isinstance(outcome, TryLater) and outcome.counts for outcome in one.outcomes.values())
        healthy = counted and breaker.is_proven(self.ledger, before, self.watch, one.task)
        outcomes = self.policy.decide(one.task, one.outcomes, healthy=healthy, own=self._own(one, before))
        wait_for = self.policy.put_off(one.task, outcomes)
        now = self.ledger.now()
        until = now + int(wait_for * 1_000_000) if wait_for else 0
        doubt = now + int(_DOUBT * self.connection.settings.timeout * 1_000_000) if one.doubtful else 0
        return Settlement(one.task, outcomes, tuple(one.attempts), until, bool(one.attempts), doubt)

    def _own(self, one: Delivered, before: BucketHealth) -> frozenset[int]:
        """Return the changes whose bad answer says nothing of the bucket, because it serves others."""
        if one.suspicion is None:
            return frozenset()
        told = (one.task, one.suspicion.call, one.suspicion.seen)
        if not breaker.is_its_own(self.ledger, before, self.watch, *told):
            return frozenset()
        self.watch.excuse(one.task.target_id)
        return frozenset(one.suspicion.call.change_ids)

    def _witness(self, suspect: int) -> Request | None:
        """Return a read about the customer that was served last, if nothing else is left that could be a witness."""
        found = self._health()
        if found.served_id in (None, suspect) or self.ledger.due(self.connection.bucket, 1):
            return None
        other = self.ledger.customer(found.served_id)
        return None if other is None else self.connection.provider.witness(other, self.connection.settings)

    def _throttled(self, before: BucketHealth, request: Request, answer: Answer, call: Attempt, asked: bool) -> bool:  # noqa: FBT001
        """Slow every process at once: the pace for those that reserve, the ledger for those that come later.

        Return False, and slow nobody, if only this customer draws that answer while others are served. Where the
        provider did not say for how long (`asked`), the first waits are short: then another customer is tried.
        """
        seconds = (answer.health.after if isinstance(answer.health, Throttled) else None) or breaker.THROTTLE_SECONDS
        self.watch.recent.note([task.target_id for task in request.tasks], served=False)
        try:
            if len(request.tasks) == 1 and request.tasks[0].tries:
                told = (request.tasks[0], call, answer.health)
                if breaker.is_its_own(self.ledger, before, self.watch, *told):
                    return False
            if self._paused and not asked:
                return True  # it was said to several calls at once
            if not asked:
                seconds = self.connection.pause(seconds, before.trips)
            self._paused = True
            self.connection.pacer.push(seconds)
            breaker.throttle(self.ledger, self.connection.bucket, seconds)
        except LedgerUnavailable as error:
            self.connection.pacer.push(seconds)
            _log.warning("throttle.not_noted", bucket=str(self.connection.bucket), reason=str(error))
        return True
