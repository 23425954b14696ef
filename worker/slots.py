"""The call slots of one stroke: taken one by one at their moments, and more of them reserved as they run out."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

from consent.errors import LedgerOutdated
from worker.breaker import Watch
from worker.connection import LiveConnection
from worker.pacing import FEW, Reservation


class NoSlot(Exception):
    """Raised where something more was to be sent and no slot comes in time."""


@dataclass(slots=True)
class Slots:
    """Reserved moments of this process's monotonic clock, in order, and until when each may be used.

    All of it happens inside the event loop.
    """

    connection: LiveConnection
    watch: Watch
    held: deque[tuple[float, float]] = field(default_factory=deque)
    _reserving: asyncio.Lock = field(default_factory=asyncio.Lock)
    _ahead: asyncio.Task[None] | None = None

    def add(self, reservation: Reservation) -> None:
        """Take in what has been reserved."""
        self.held.extend((moment, moment + reservation.late) for moment in reservation.moments)

    async def take(self, deadline: float, left: int) -> float | None:
        """Wait for the next slot; return until when it may be used, or None if none comes before the deadline.

        A moment that has passed is lost, never used late: using it would put two calls into one window. `left` says
        how many calls are to be made yet, this one included.
        """
        while (now := time.monotonic()) < deadline and not self.watch.stop:
            slot = self._next(now)
            if slot is None:
                await self._reserve(left)
                continue
            self._look_ahead(left)
            moment, until = slot
            if moment > deadline:
                return None
            if moment > now:
                await asyncio.sleep(moment - now)
            await self.connection.limiter.acquire()
            if time.monotonic() <= until and not self.watch.stop:
                return until
        return None

    def _next(self, now: float) -> tuple[float, float] | None:
        while self.held:
            slot = self.held.popleft()
            if slot[1] >= now:
                return slot
        return None

    def _look_ahead(self, left: int) -> None:
        """Reserve more before the last slot is gone, where slots may be used late: then no call waits for Redis."""
        few = self.connection.pacer.spare_calls // FEW
        if len(self.held) > few or left - len(self.held) <= few or (self._ahead and not self._ahead.done()):
            return
        if self.connection.slots_for(left) <= self.connection.pacer.spare_calls:
            self._ahead = asyncio.create_task(self._reserve(left - len(self.held), few))

    async def _reserve(self, left: int, few: int = 0) -> None:
        async with self._reserving:
            if len(self.held) > few:
                return
            pacer = self.connection.pacer
            with suppress(LedgerOutdated):  # the stroke is told when it settles what has been answered
                self.add(await asyncio.to_thread(pacer.reserve, self.connection.slots_for(left)))
            if not self.held:
                await asyncio.sleep(min(pacer.horizon / 2, pacer.interval))

    async def aclose(self) -> None:
        """Reserve no more."""
        if self._ahead is not None:
            self._ahead.cancel()
            await asyncio.wait([self._ahead])


@dataclass(slots=True)
class Turn:
    """The turns of one call: the first slot was taken for it, each further thing that it sends takes another.

    The first one is given up if it was not used in time: signing may have waited for somebody else's token.
    """

    slots: Slots
    deadline: float
    until: float

    def is_now(self) -> bool:
        """Say whether the slot that was taken may still be used, and use it up."""
        until, self.until = self.until, 0.0
        return time.monotonic() <= until

    async def wait(self) -> None:
        """Wait until something may be sent; raise NoSlot if that is never."""
        if await self.slots.take(self.deadline, 1) is None:
            raise NoSlot
