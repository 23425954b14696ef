"""The permits of one delivery: how many are reserved at once, and how its calls take them, each at its moment."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

from consent.errors import LedgerOutdated
from worker.delivery.bucket_context import BucketContext
from worker.delivery.concurrency import PREPARING
from worker.ratelimit.limiter import FEW, Reservation

T = TypeVar("T")

TURN = 4.0
"""How many times longer a turn is than permits may be late: who makes 8 calls where 10 are due loses none."""

_SHORTEST_TURN = 16

_MANY_MORE = 4
"""How many times those that may be used late are worth a wait for Redis, in which no call begins."""


class NoPermit(Exception):
    """Raised where something more was to be sent and no permit comes in time."""


@dataclass(slots=True)
class Permits:
    """Reserved moments of this process's monotonic clock, in order, and until when each may be used.

    Their numbers may be asked for anywhere. All else happens inside the event loop, and while it is open as a context:
    at its end no more are reserved. `stopped` says that the delivery makes no further call.
    """

    context: BucketContext
    stopped: Callable[[], bool]
    held: deque[tuple[float, float]] = field(default_factory=deque)
    preparing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PREPARING))
    _reserving: asyncio.Lock = field(default_factory=asyncio.Lock)
    _ahead: asyncio.Task[None] | None = None

    def batch_size(self, most: int) -> int:
        """Return how many calls one batch should hold: half a reservation window's worth, and no more than can be made.

        Half, so that two deliveries can keep the reservations ahead of the clock between them. Permits of one batch lie
        side by side: where calls last so long that all of it would be under way at once, it is half of the concurrency
        limit, so that the other half is left for the next one. With quick calls, that would make many small claims.
        """
        limiter, limit, lasts = self.context.rate_limiter, self.context.concurrency.limit, self.context.call_seconds
        ahead, half = limiter.reservation_seconds / 2, max(1, int(limit / 2))
        allowed = max(1, int(ahead / limiter.interval))
        if lasts > max(half * limiter.interval, ahead / 10):
            allowed = min(allowed, half)
        can_be_made = max(1, int(limit * ahead / max(lasts, 0.001)))  # by this process, going by its latest calls
        return min(most, allowed, can_be_made)

    def reserve_for(self, calls: int) -> int:
        """Return how many permits to reserve for so many calls: no more than can be used before they are lost.

        Where this process is slower than the limit, permits pass while all its calls are under way, and those it holds
        are missing elsewhere: then it takes only as many as it may use late, and more before they are gone, or as many
        as it can use within the tolerance, where those are many more.
        """
        limiter, limit = self.context.rate_limiter, self.context.concurrency.limit
        behind = self.context.call_seconds / limit - limiter.interval
        if behind <= 0:
            return min(calls, self.batch_size(calls), self.turn or calls)
        in_time = int(limit) + int(limiter.tolerance / behind)
        return min(calls, in_time if in_time > _MANY_MORE * limiter.spare_calls else limiter.spare_calls)

    @property
    def turn(self) -> int:
        """How many permits a delivery reserves at once where the limit is high; 0 where it is low.

        Permits that are reserved together lie side by side, so one process makes calls as fast as all may together
        while it uses them. One that is slower than that falls behind within its turn by less than permits may be late,
        and catches up while others have theirs.
        """
        turn = int(TURN * self.context.rate_limiter.tolerance / self.context.rate_limiter.interval)
        return turn if turn >= _SHORTEST_TURN else 0

    def add(self, reservation: Reservation) -> None:
        """Take in what has been reserved."""
        new = ((moment, moment + reservation.late) for moment in reservation.moments)
        if self.held and reservation.moments and reservation.moments[0] < self.held[-1][0]:
            self.held = deque(sorted([*self.held, *new]))  # the delivery and a call reserved at the same time
        else:
            self.held.extend(new)

    async def take(self, deadline: float, left: int) -> float | None:
        """Wait for the next permit; return until when it may be used, or None if none comes before the deadline.

        A moment that has passed is lost, never used late: using it would put two calls into one window. `left` says
        how many calls are to be made yet, this one included.
        """
        while (now := time.monotonic()) < deadline and not self.stopped():
            permit = self._next(now)
            if permit is None:
                await self._reserve(left)
                continue
            self._look_ahead(left)
            moment, until = permit
            if moment > deadline:
                return None
            if moment > now:
                await asyncio.sleep(moment - now)
            await self.context.process_cap.acquire()
            if time.monotonic() <= until and not self.stopped():
                return until
        return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._ahead is not None:
            self._ahead.cancel()
            await asyncio.wait([self._ahead])

    def _next(self, now: float) -> tuple[float, float] | None:
        while self.held:
            permit = self.held.popleft()
            if permit[1] >= now:
                return permit
        return None

    def _look_ahead(self, left: int) -> None:
        """Reserve more before the last permit is gone, where that may be: then no call waits for Redis."""
        if self._ahead and not self._ahead.done():
            return
        limiter = self.context.rate_limiter
        is_slower = self.context.call_seconds > limiter.interval * self.context.concurrency.limit
        few = self.reserve_for(left) // FEW if is_slower else self.turn // 2
        needed = left - 1 - len(self.held)  # one has its permit
        if len(self.held) <= few and needed > (few if limiter.spare_calls else 0):
            self._ahead = asyncio.create_task(self._reserve(needed, few))

    async def _reserve(self, left: int, few: int = 0) -> None:
        limiter = self.context.rate_limiter
        async with self._reserving:
            if len(self.held) > few:
                return
            with suppress(LedgerOutdated):  # the delivery raises it when it settles what has been answered
                self.add(await asyncio.to_thread(limiter.reserve, self.reserve_for(left)))
            if not self.held:
                await asyncio.sleep(min(limiter.reservation_seconds / 2, limiter.interval))


@dataclass(slots=True)
class Backlog(Generic[T]):
    """What a delivery has yet to send: what waits to be begun, and how many have begun and have no permit yet.

    `news` is set once another one may begin.
    """

    waiting: deque[T] = field(default_factory=deque)
    without_permit: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def left(self) -> int:
        """How many calls have no permit yet; may be asked from any thread."""
        return len(self.waiting) + self.without_permit

    def begin(self) -> T:
        """Return the next one, which has no permit yet."""
        self.without_permit += 1
        return self.waiting.popleft()

    def note_permit(self) -> None:
        """Let another one wait for its permit: one of those that have begun has a permit, or will have none."""
        self.without_permit -= 1
        if self.waiting:
            self.news.set()


@dataclass(slots=True)
class Permit:
    """The permits of one call, a context from its preparation on: one for the call itself, one for all else it sends.

    The first one is given up if it was not used in time: it may have waited for a token that another call fetches.
    `backlog` is told once, as soon as another call may wait for a permit. What comes without a backlog, such as a
    harmless read, is none of the few that may hold a permit, and waits for no other. `was_used` says that something may
    have been sent.
    """

    permits: Permits
    deadline: float
    backlog: Backlog[Any] | None = None
    was_used: bool = False
    _until: float = 0.0
    _holds: bool = False

    async def take(self) -> bool:
        """Wait until few enough others hold a permit, and for the first one; return whether there is one."""
        left = 1
        if self.backlog is not None:
            await self.permits.preparing.acquire()
            self._holds, left = True, max(1, self.backlog.left)
        until = await self.permits.take(self.deadline, left)
        self._wait_no_more()
        self._until = until or 0.0
        return until is not None

    def is_now(self) -> bool:
        """Say whether the permit that was taken may still be used, and use it up: from then on it is not held."""
        until, self._until = self._until, 0.0
        self._hold_no_more()
        self.was_used |= (is_now := time.monotonic() <= until)
        return is_now

    async def wait(self) -> None:
        """Wait until something may be sent; raise NoPermit if that is never."""
        if await self.permits.take(self.deadline, 1) is None:
            raise NoPermit
        self.was_used = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._wait_no_more()
        self._hold_no_more()

    def _wait_no_more(self) -> None:
        if self.backlog is not None:
            backlog, self.backlog = self.backlog, None
            backlog.note_permit()

    def _hold_no_more(self) -> None:
        if self._holds:
            self._holds = False
            self.permits.preparing.release()
