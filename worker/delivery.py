"""Sending series of requests side by side, each at its reserved moment, and telling what became of each task."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from consent.ledger.work import Attempt, CustomerTask
from consent.outcome import Applied, Outcome, Rejected, Throttled, TryLater, Unchanged, Well
from worker.breaker import THROTTLE_SECONDS, Watch
from worker.connection import LiveConnection
from worker.pacing import Reservation
from worker.providers.contract import Answer, Plan, Request
from worker.providers.no_reply import Failure, NoReply, unanswered

Series = tuple[Request, ...]
_log = structlog.get_logger()


@dataclass(slots=True)
class Delivered:
    """What became of one customer task so far: outcomes by change id, and the calls that were made.

    `doubtful` says that a call went out whose answer never came: the provider may still be at it.
    """

    task: CustomerTask
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    doubtful: bool = False


@dataclass(slots=True)
class Delivery:
    """One stroke's calls. No call starts after `deadline` (monotonic seconds), when the lease would be too short."""

    connection: LiveConnection
    reservation: Reservation
    watch: Watch
    deadline: float
    clock: Callable[[], int]
    report: Callable[[Delivered], None]
    throttled: Callable[[float], None]
    ended: threading.Event = field(default_factory=threading.Event)

    async def run(self, tasks: Iterable[CustomerTask], plan: Plan) -> None:
        """Send every series, a few at a time, and report each task as soon as its series has ended."""
        planned = {task.target_key for series in plan.series for request in series for task in request.tasks}
        for task in tasks:
            if task.target_key not in planned:
                self.report(_decided(task, plan))
        waiting = deque(plan.series)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.connection.settings.concurrency, len(waiting))):
                    group.create_task(self._take_turns(waiting, plan))
        finally:
            self.ended.set()

    async def _take_turns(self, waiting: deque[Series], plan: Plan) -> None:
        while waiting:
            await self._send_series(waiting.popleft(), plan, len(waiting) + 1)

    async def _send_series(self, series: Series, plan: Plan, left: int) -> None:
        found = {task.target_key: _decided(task, plan) for request in series for task in request.tasks}
        requests = deque(series)
        try:
            while requests and (answer := await self._send(requests[0], found, left)) is not None:
                requests.popleft()
                requests.extendleft(reversed(answer.further))
        finally:
            for delivered in found.values():
                self.report(delivered)

    async def _send(self, request: Request, found: dict[bytes, Delivered], left: int) -> Answer | None:
        """Make one call at its moment; return None if its moment does not come. First a place, then the moment."""
        async with self.connection.places:
            return await self._call(request, found) if await self._slot(left) else None

    async def _slot(self, left: int) -> bool:
        """Wait for the next reserved moment; return False if none comes before the deadline.

        A moment that has passed is lost, never used late: using it would put two calls into one window.
        """
        pacer = self.connection.pacer
        moments = self.reservation.moments
        while (now := time.monotonic()) < self.deadline and not self.watch.stop:
            if not moments:
                await self._reserve_more(min(left, self.connection.portion(left)))
                continue
            moment = moments.popleft()
            if moment > self.deadline:
                return False
            if now > moment + pacer.tolerance:
                continue
            await asyncio.sleep(moment - now)
            await self.connection.limiter.acquire()
            if time.monotonic() <= moment + pacer.tolerance and not self.watch.stop:
                return True
        return False

    async def _reserve_more(self, wanted: int) -> None:
        pacer = self.connection.pacer
        more = await asyncio.to_thread(pacer.reserve, wanted)
        self.reservation.moments.extend(more.moments)
        if not more.moments:
            await asyncio.sleep(min(pacer.horizon / 2, pacer.interval))

    async def _call(self, request: Request, found: dict[bytes, Delivered]) -> Answer:
        at, started = self.clock(), time.monotonic()
        try:
            status, answer, doubtful = await self._exchange(request)
        except asyncio.CancelledError:
            self._note(request, found, (at, started, None, _interrupted(request)), doubtful=True)
            raise
        self.connection.note_call(time.monotonic() - started)
        self.watch.note(answer.health, proof=_proves(answer.outcomes.values()))
        self._note(request, found, (at, started, status, answer), doubtful=doubtful)
        if isinstance(answer.health, Throttled):
            await asyncio.to_thread(self.throttled, answer.health.after or THROTTLE_SECONDS)
        return answer

    async def _exchange(self, request: Request) -> tuple[int | None, Answer, bool]:
        """Send a request and have its reply read; a reply that nobody can make sense of harms only its own changes."""
        try:
            reply = await self.connection.sender.send(request)
            if isinstance(reply, NoReply):
                return None, unanswered(reply, request), reply.kind is Failure.TIMED_OUT
            answer = self.connection.provider.read(request, reply, self.connection.settings)
        except Exception as error:  # noqa: BLE001 - whatever a provider answers, its neighbours must not suffer
            _log.error("reply.unreadable", bucket=str(self.connection.bucket), error=type(error).__name__)
            return None, _unreadable(request), False
        return reply.status, answer, False

    def _note(
        self,
        request: Request,
        found: dict[bytes, Delivered],
        call: tuple[int, float, int | None, Answer],
        *,
        doubtful: bool,
    ) -> None:
        at, started, status, answer = call
        milliseconds = int((time.monotonic() - started) * 1000)
        for number, (key, ids) in enumerate(_by_target(request).items()):
            one = found[key]
            facts = (key, at, milliseconds, request.purpose, status, answer.code, tuple(ids))
            one.attempts.append(Attempt(*facts, counts=number == 0))
            one.outcomes.update((i, answer.outcomes[i]) for i in ids if i in answer.outcomes)
            one.doubtful = one.doubtful or doubtful


def _interrupted(request: Request) -> Answer:
    later = TryLater("interrupted", "the worker was stopped before the provider had answered", counts=False)
    return Answer(Well(), {change.id: later for change in request.changes}, code=later.code)


def _unreadable(request: Request) -> Answer:
    later = TryLater("unreadable", "the provider's answer could not be read", counts=True)
    return Answer(Well(), {change.id: later for change in request.changes}, code=later.code)


def _decided(task: CustomerTask, plan: Plan) -> Delivered:
    return Delivered(
        task, {change.id: plan.outcomes[change.id] for change in task.changes if change.id in plan.outcomes}
    )


def _proves(outcomes: Iterable[Outcome]) -> bool:
    return any(isinstance(outcome, Applied | Unchanged | Rejected) for outcome in outcomes)


def _by_target(request: Request) -> dict[bytes, list[int]]:
    asked = {change.id for change in request.changes}
    found: dict[bytes, list[int]] = defaultdict(list)
    for task in request.tasks:
        found[task.target_key].extend(change.id for change in task.changes if change.id in asked)
    return found
