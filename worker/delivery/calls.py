"""Sending series of requests side by side, each at its reserved moment, and telling what became of each task."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from consent.errors import LedgerUnavailable
from consent.ledger.queue.tasks import WITNESS, Attempt, CustomerTask
from consent.outcome import Healthy, Retry, Throttled, Unavailable
from worker.delivery.breaker import Observations
from worker.delivery.bucket_context import BucketContext
from worker.delivery.fuse_check import FuseCheck
from worker.delivery.permits import Backlog, NoPermit, Permit, Permits
from worker.delivery.results import INTERRUPTED, Call, Retries, TaskResult, note_call, put_off
from worker.delivery.throttling import Throttling
from worker.delivery.traces import DeliveryTrace
from worker.http.failures import Failure, NoReply, unanswered
from worker.providers.contract import Answer, Plan, Reply, Request
from worker.ratelimit.limiter import Reservation

Series = tuple[Request, ...]
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """Customer tasks that were claimed together, what they need, and permits for the first calls.

    No call starts after `deadline` (monotonic seconds), when their lease would be too short.
    """

    tasks: Sequence[CustomerTask]
    plan: Plan
    permits: Reservation
    deadline: float


@dataclass(slots=True)
class ConcurrentCalls:
    """One delivery's calls: batches may be added while others are being delivered, until it is closed.

    `clock` says when it is (microseconds), `report` is told what became of each customer task.
    """

    context: BucketContext
    permits: Permits
    observations: Observations
    retries: Retries
    throttling: Throttling
    fuses: FuseCheck
    clock: Callable[[], int]
    report: Callable[[TaskResult], None]
    trace: DeliveryTrace | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    _backlog: Backlog[tuple[Series, ClaimedBatch]] = field(default_factory=Backlog)
    _running: int = 0
    _asks: bool = False
    _closed: bool = False

    @property
    def left(self) -> int:
        """How many series have no permit yet; may be asked from any thread."""
        return self._backlog.left

    @property
    def is_busy(self) -> bool:
        """Whether anything waits or is under way; may be asked from any thread."""
        return bool(self._backlog.waiting or self._running)

    def called_in(self, seconds: float, most: int) -> int:
        """Return about how many calls begin in so many seconds, going by those under way, but `most` at most."""
        return min(most, int(seconds * self.context.concurrency.calling / max(self.context.call_seconds, 0.001)))

    async def run(self) -> None:
        """Send every series of every batch, side by side; report each task as soon as its series has ended."""
        limit = self.context.concurrency
        try:
            async with self.permits, asyncio.TaskGroup() as group:
                while self._backlog.waiting or not self._closed:
                    self._backlog.news.clear()
                    if not self._may_begin():
                        await self._backlog.news.wait()
                        continue
                    self._asks = True
                    await limit.acquire()
                    self._asks = False
                    if not self._may_begin():  # others of this delivery have begun with what was waiting
                        limit.release()
                        continue
                    self._running += 1
                    lane = group.create_task(self._use_place(*self._backlog.begin()))
                    lane.add_done_callback(self._leave_place)
        finally:
            self.ended.set()

    def add(self, batch: ClaimedBatch | None) -> None:
        """Take in more to deliver, to be called inside the event loop; None: what has been added is all."""
        if batch is None:
            self._closed = True
        else:
            plan = batch.plan
            planned = {task.target_id for series in plan.series for request in series for task in request.tasks}
            for task in batch.tasks:
                if task.target_id not in planned:
                    self._report(_decided(task, plan))
            self.permits.add(batch.permits)
            self._backlog.waiting.extend((series, batch) for series in plan.series)
        self._backlog.news.set()

    def _may_begin(self) -> bool:
        return bool(self._backlog.waiting) and self._backlog.without_permit < self.context.concurrency.preparing

    async def _use_place(self, series: Series, batch: ClaimedBatch) -> None:
        """Send a series, and then further ones in its place: to begin each anew would wake the event loop twice.

        Not after one for which no call was made: where hundreds may not be sent any more, others wait for the loop.
        """
        try:
            while await self._send_series(series, batch):
                if not (self._may_begin() and self.context.concurrency.may_keep(asks=self._asks)):
                    return
                series, batch = self._backlog.begin()
        finally:
            self._running -= 1  # at once: a call that ends in the same moment may have to look for a witness

    def _leave_place(self, _: object) -> None:
        """Give a place back once its task is over: one that is cancelled before it has begun runs no `finally`."""
        self.context.concurrency.release()
        self._backlog.news.set()

    async def _send_series(self, series: Series, batch: ClaimedBatch) -> bool:
        """Send the requests of a series one after the other; return whether any call was made."""
        found = {task.target_id: _decided(task, batch.plan) for request in series for task in request.tasks}
        requests = deque(series)
        try:
            if self.fuses.holds(series[0]):
                self._backlog.note_permit()
                return False
            while requests and (answer := await self._send(requests[0], found, batch.deadline)) is not None:
                requests.popleft()
                if any(one.in_doubt or one.suspicion is not None for one in found.values()):
                    break  # it may still be at it, or refuse this customer: nothing more for these targets now
                requests.extendleft(reversed(answer.further))
                self._backlog.without_permit += bool(requests)
            if suspects := [one for one in found.values() if one.lacks_witness]:
                await self._look_for_a_witness(suspects[0], batch.deadline)
            return any(one.attempts for one in found.values())
        finally:
            for delivered in found.values():
                self._report(delivered)

    def _report(self, one: TaskResult) -> None:
        self.report(one)
        self.fuses.note(one)

    async def _send(self, request: Request, found: dict[int, TaskResult], deadline: float) -> Answer | None:
        """Make one call at its moment, on an open connection; return None if its moment does not come."""
        with Permit(self.permits, deadline, self._backlog) as permit:
            async with self.context.sender.preconnected:
                if not await permit.take():
                    return None
                return await self._call(request, found, permit)

    async def _call(self, request: Request, found: dict[int, TaskResult], permit: Permit) -> Answer | None:
        at, limit, failed = self.clock(), self.context.concurrency, False
        began = limit.begin()
        try:
            status, answer, in_doubt, reply = await self._exchange(request, permit)
            failed = isinstance(answer.health, _SUFFERING)
        except NoPermit:
            return None
        except asyncio.CancelledError:
            if permit.was_used:
                seconds, writes = limit.clock() - began, request.method not in _LOOKING
                note_call(Call(request, at, seconds, None, _interrupted(request), in_doubt=writes), found)
            raise
        finally:
            seconds = limit.end(began, failed=failed)
        call = Call(request, at, seconds, status, answer, in_doubt)
        self.context.call_seconds += _LEARNS * (seconds - self.context.call_seconds)
        if self.trace is not None:
            self.trace.note_call(call)
        made = note_call(call, found)
        asked = isinstance(reply, Reply) and reply.retry_after is not None
        if isinstance(answer.health, Throttled) and not await self._slow_down(call, made[0], found, asked=asked):
            return answer  # it was this customer's own
        if isinstance(answer.health, Healthy):
            self.observations.note(answer.health, served=call.served, at=at)
        else:
            self.observations.note(answer.health, call.targets)
        return answer

    async def _slow_down(self, call: Call, made: Attempt, found: dict[int, TaskResult], *, asked: bool) -> bool:
        """Slow all processes after a 429; return False, and slow none, if it was this customer's own."""
        seconds = await asyncio.to_thread(self.throttling.slow_down, call, made, asked=asked)
        if seconds is not None:
            put_off(call, found, seconds)
        return seconds is not None

    async def _look_for_a_witness(self, one: TaskResult, deadline: float) -> None:
        """Where only this customer is left, read something harmless, to see whether the provider works."""
        if self._backlog.waiting or self._running > 1:
            return
        if self.observations.served_since(one.called_at, but=one.task.target_id):
            return
        request = None
        with suppress(LedgerUnavailable):  # what the call was answered is told all the same
            request = await asyncio.to_thread(self.retries.witness, one)
        if request is None:
            return
        async with self.context.sender.preconnected:
            with Permit(self.permits, deadline) as permit:
                if not await permit.take():
                    return
                at, started = self.clock(), time.monotonic()
                try:
                    status, answer, _, _ = await self._exchange(request, permit)
                except NoPermit:
                    return
        if isinstance(answer.health, Healthy):
            self.observations.vouch(at)
        milliseconds, ids = int((time.monotonic() - started) * 1000), tuple(change.id for change in one.task.changes)
        one.attempts.append(Attempt(one.task.target_id, at, milliseconds, WITNESS, status, answer.code, ids))

    async def reads_well(self, request: Request, deadline: float) -> bool | None:
        """Make a harmless read, before a moment (monotonic); return whether it was answered well, None if not made."""
        async with self.context.sender.preconnected:
            with Permit(self.permits, deadline) as permit:
                if not await permit.take():
                    return None
                try:
                    _, answer, _, reply = await self._exchange(request, permit)
                except NoPermit:
                    return None
        return isinstance(answer.health, Healthy) if isinstance(reply, Reply) else None

    async def _exchange(
        self, request: Request, permit: Permit
    ) -> tuple[int | None, Answer, bool, Reply | NoReply | None]:
        """Send a request and have its reply read; a reply that makes no sense harms only its own changes."""
        writes, reply = request.method not in _LOOKING, None
        try:
            reply = await self.context.sender.send(request, permit)
            if isinstance(reply, NoReply):
                return None, unanswered(reply, request), writes and reply.kind in _STILL_AT_IT, reply
            answer = self.context.provider.read(request, reply, self.context.settings)
        except NoPermit:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a provider answers, its neighbours must not suffer
            _log.error("reply.unreadable", bucket=str(self.context.bucket), error=type(error).__name__)
            return None, _unreadable(request), writes and _is_passed_on(reply), reply
        return reply.status, answer, writes and _is_passed_on(reply), reply


_LEARNS = 0.1
"""How much the latest call counts in how long calls take lately."""

_LOOKING = {"GET", "HEAD"}
_SUFFERING = (Unavailable, Throttled)
_STILL_AT_IT = {Failure.TIMED_OUT, Failure.CUT, Failure.UNREADABLE}
_PASSED_ON = {502, 504, 520, 524}
"""What a proxy answers that has lost patience with, or sight of, a provider who may still do the call.

520 and 524 are Cloudflare's: developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors.
"""


def _decided(task: CustomerTask, plan: Plan) -> TaskResult:
    """Return what is decided about a task before any call."""
    found = plan.outcomes
    return TaskResult(task, {one.id: found[one.id] for one in task.changes if one.id in found} if found else {})


def _is_passed_on(reply: Reply | NoReply | None) -> bool:
    return isinstance(reply, Reply) and reply.status in _PASSED_ON


def _interrupted(request: Request) -> Answer:
    later = Retry(INTERRUPTED, "the worker was stopped before the provider had answered", counts=False)
    return Answer(Healthy(), {change.id: later for change in request.changes}, code=later.code)


def _unreadable(request: Request) -> Answer:
    later = Retry("unreadable", "the provider's answer could not be read", counts=True)
    return Answer(Healthy(), {change.id: later for change in request.changes}, code=later.code)
