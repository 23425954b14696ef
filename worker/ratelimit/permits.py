"""The permits of one delivery: taken one by one at their moments, and more of them reserved as they run out."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from aiolimiter import AsyncLimiter

from consent.errors import LedgerOutdated
from worker.ratelimit.limiter import FEW, RateLimiter, Reservation


class NoPermit(Exception):
    """Raised where something more was to be sent and no permit comes in time."""


@dataclass(slots=True)
class Permits:
    """Reserved moments of this process's monotonic clock, in order, and until when each may be used.

    All of it happens inside the event loop.
    """

    limiter: RateLimiter
    cap: AsyncLimiter
    size: Callable[[int], int]
    stopped: Callable[[], bool]
    held: deque[tuple[float, float]] = field(default_factory=deque)
    _reserving: asyncio.Lock = field(default_factory=asyncio.Lock)
    _ahead: asyncio.Task[None] | None = None

    def add(self, reservation: Reservation) -> None:
        """Take in what has been reserved."""
        self.held.extend((moment, moment + reservation.late) for moment in reservation.moments)

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
            await self.cap.acquire()
            if time.monotonic() <= until and not self.stopped():
                return until
        return None

    def _next(self, now: float) -> tuple[float, float] | None:
        while self.held:
            permit = self.held.popleft()
            if permit[1] >= now:
                return permit
        return None

    def _look_ahead(self, left: int) -> None:
        """Reserve more before the last permit is gone, where permits may be used late: then no call waits for Redis."""
        few = self.limiter.spare_calls // FEW
        if len(self.held) > few or left - len(self.held) <= few or (self._ahead and not self._ahead.done()):
            return
        if self.size(left) <= self.limiter.spare_calls:
            self._ahead = asyncio.create_task(self._reserve(left - len(self.held), few))

    async def _reserve(self, left: int, few: int = 0) -> None:
        async with self._reserving:
            if len(self.held) > few:
                return
            with suppress(LedgerOutdated):  # the delivery raises it when it settles what has been answered
                self.add(await asyncio.to_thread(self.limiter.reserve, self.size(left)))
            if not self.held:
                await asyncio.sleep(min(self.limiter.reservation_seconds / 2, self.limiter.interval))

    async def aclose(self) -> None:
        """Reserve no more."""
        if self._ahead is not None:
            self._ahead.cancel()
            await asyncio.wait([self._ahead])


@dataclass(slots=True)
class Permit:
    """The permits of one call: the first permit was taken for it, each further thing that it sends takes another.

    The first one is given up if it was not used in time: it may have waited for a token that another call fetches.
    """

    permits: Permits
    deadline: float
    until: float
    used: Callable[[], None] = lambda: None

    def is_now(self) -> bool:
        """Say whether the permit that was taken may still be used, and use it up: from then on it is not held."""
        until, self.until = self.until, 0.0
        self.used()
        return time.monotonic() <= until

    async def wait(self) -> None:
        """Wait until something may be sent; raise NoPermit if that is never."""
        if await self.permits.take(self.deadline, 1) is None:
            raise NoPermit
