"""Sending series of requests side by side, each at its reserved moment, and telling what became of each task."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from consent.ledger.work import Attempt, CustomerTask
from consent.outcome import Applied, Outcome, Rejected, Unchanged
from worker.breaker import Watch
from worker.connection import LiveConnection
from worker.pacing import Reservation
from worker.providers.contract import Answer, Plan, Request
from worker.providers.no_reply import NoReply, unanswered

Series = tuple[Request, ...]


@dataclass(slots=True)
class Delivered:
    """What became of one customer task so far: outcomes by change id, and the calls that were made."""

    task: CustomerTask
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)


@dataclass(slots=True)
class Delivery:
    """One stroke's calls. No call starts after `deadline` (monotonic seconds), when the lease would be too short."""

    connection: LiveConnection
    reservation: Reservation
    watch: Watch
    deadline: float
    clock: Callable[[], int]
    report: Callable[[Delivered], None]

    async def run(self, tasks: Iterable[CustomerTask], plan: Plan) -> None:
        """Send every series, a few at a time, and report each task as soon as its series has ended."""
        planned = {task.target_key for series in plan.series for request in series for task in request.tasks}
        for task in tasks:
            if task.target_key not in planned:
                self.report(_decided(task, plan))
        waiting = deque(plan.series)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self.connection.settings.concurrency, len(waiting))):
                group.create_task(self._take_turns(waiting, plan))

    async def _take_turns(self, waiting: deque[Series], plan: Plan) -> None:
        while waiting:
            await self._send_series(waiting.popleft(), plan, len(waiting) + 1)

    async def _send_series(self, series: Series, plan: Plan, left: int) -> None:
        found = {task.target_key: _decided(task, plan) for request in series for task in request.tasks}
        requests = deque(series)
        while requests and not self.watch.stop and await self._slot(left):
            request = requests.popleft()
            answer = await self._call(request, found)
            requests.extendleft(reversed(answer.further))
        for delivered in found.values():
            self.report(delivered)

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
            await asyncio.sleep(max(0.0, moment - now))
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
        reply = await self.connection.sender.send(request)
        seconds = time.monotonic() - started
        self.connection.note_call(seconds)
        if isinstance(reply, NoReply):
            status, answer = None, unanswered(reply, request)
        else:
            status, answer = reply.status, self.connection.provider.read(request, reply, self.connection.settings)
        self.watch.note(answer.health, proof=_proves(answer.outcomes.values()))
        for number, (key, ids) in enumerate(_by_target(request).items()):
            attempt = Attempt(
                key, at, int(seconds * 1000), request.purpose, status, answer.code, tuple(ids), counts=number == 0
            )
            found[key].attempts.append(attempt)
            found[key].outcomes.update((i, answer.outcomes[i]) for i in ids if i in answer.outcomes)
        return answer


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
