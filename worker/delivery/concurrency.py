"""How many calls a process keeps under way at once: as many as rate and latency need, fewer where the provider suffers.

Calls under way = rate × latency (Little's law), so a fixed number leaves the allowed rate idle as soon as a provider
answers slowly. The limit follows what calls measure, as TCP Vegas and Netflix' concurrency-limits do: while all of it
is used and latency stays near its floor it grows, first by doubling, then by its square root a window; where latency
stands far above the floor it shrinks towards what the floor allows; failures (no reply, 5xx, 429) shrink it by half
of their share. Latency that does not fall as the limit shrinks is the provider's own: it becomes the new floor.
docs/performance.md says why this rule was taken.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

FIRST_LIMIT = 8
PREPARING = 8
"""Calls of a delivery that may hold a permit which they have not used yet."""

_NEAR, _FAR = 1.1, 1.3
"""Median latency over its floor, beside what chance does: up to which the limit may grow, from which it must shrink."""

_SHORTEST_WINDOW, _LONGEST_WINDOW = 0.1, 1.0  # seconds
_LATENCIES, _PROBE_LATENCIES = 1.5, 8.0
"""How often the floor of latency goes into a window, at least."""

_SAMPLES = 20
"""Answers without which a window says nothing of latency, unless it has lasted for `_LONGEST_WINDOW`."""

_FIRST_PROBE_SECONDS, _PROBE_SECONDS = 3.0, 30.0
_FAILING = 0.05
_MOSTLY = 0.5
_EASES, _PROBE_EASES = 0.85, 0.7


@dataclass(slots=True)
class ConcurrencyLimit:
    """The limit of one connection in one process, `bound` at most. All of it happens inside the event loop."""

    bound: int
    clock: Callable[[], float] = time.monotonic
    limit: float = 0.0
    floor: float = 0.0
    failing: float = 0.0
    in_use: int = 0
    calling: int = 0
    _peak: int = 0
    _doubles: bool = True
    _latencies: list[float] = field(default_factory=list)
    _failed: int = 0
    _began: float = 0.0
    _changed: float = -math.inf
    _shrinking: tuple[float, float] | None = None
    _probing: tuple[float, float] | None = None
    _probe_at: float = 0.0
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.limit = float(min(self.bound, self.limit or FIRST_LIMIT))
        self._began = self.clock()
        self._probe_at = self._began + _FIRST_PROBE_SECONDS

    @property
    def preparing(self) -> int:
        """How many series may wait for a permit at once: what the limit grows into must have its connections open."""
        return max(PREPARING, int(self.limit) // 4)

    async def acquire(self) -> None:
        """Wait until one more call may be under way; who came first goes first."""
        if not self._waiting and self.in_use < self._places:
            self.in_use += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it has got its place already
                self.release()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def may_keep(self, *, asks: bool) -> bool:
        """Say whether who made a call may make another one in its place: it fits, and no one else waits for it.

        `asks` says that who wants to know waits for one more place, too.
        """
        return self.in_use <= self._places and len(self._waiting) <= asks

    def release(self) -> None:
        """Let another call begin."""
        self.in_use -= 1
        self._hand_over()

    def begin(self) -> float:
        """Note that a call has its permit and begins; return the moment, which `end` is to be told."""
        self.calling += 1
        self._peak = max(self._peak, self.calling)
        return self.clock()

    def end(self, began: float, *, failed: bool = False) -> float:
        """Learn from a call that has ended, with or without an answer; return how many seconds it took.

        It has `failed` if there was no reply, a 5xx or a 429.
        """
        self.calling -= 1
        now = self.clock()
        if began >= self._changed:  # what began before says nothing of the limit as it is now
            if failed:
                self._failed += 1
            else:
                self._latencies.append(now - began)
        self._look(now)
        return now - began

    def _look(self, now: float) -> None:
        """Judge a window once it has ended."""
        lasted, answers = now - self._began, len(self._latencies) + self._failed
        least = (_PROBE_LATENCIES if self._probing else _LATENCIES) * self.floor  # the slow answers must have come, too
        if lasted < max(_SHORTEST_WINDOW, least) or not answers or (answers < _SAMPLES and lasted < _LONGEST_WINDOW):
            return
        before, in_full = self.limit, self._peak + PREPARING >= self.limit
        if in_full or not self.floor:
            self._judge(self._failed / answers, now)
        elif len(self._latencies) > 1:
            self._move_floor(statistics.median(self._latencies), in_full=False)
        self.limit = min(float(self.bound), max(1.0, self.limit))
        if self.limit != before:
            self._changed = now
        self._latencies.clear()
        self._failed, self._peak, self._began = 0, self.calling, now
        self._hand_over()

    def _judge(self, failing: float, now: float) -> None:
        more = failing - self.failing
        self.failing = min(_MOSTLY, self.failing + 0.1 * more)
        if more > _FAILING:
            self._doubles = False
            self.limit *= 1 - more / 2
        if failing > _MOSTLY or len(self._latencies) < 2:  # noqa: PLR2004 - of one answer nothing is known
            return
        if self._probing is not None:
            self._end_probe()
            return
        median, chance = self._measured()
        self._move_floor(median, in_full=True)
        if median > _FAR * self.floor + 2 * chance:
            self._shrink(median)
            return
        self._shrinking = None
        near = median <= _NEAR * self.floor + chance
        if now >= self._probe_at and not (near and self._doubles):
            self._probe_at = now + _PROBE_SECONDS
            self._probing = (self.limit, median)
            self.limit /= 2
        elif near:
            self.limit += self.limit if self._doubles else max(1.0, math.sqrt(self.limit) / 2)
        else:
            self.floor += (
                0.02 * (now - self._began) * (median - self.floor)
            )  # if that is too much, the next probe finds out

    def _move_floor(self, median: float, *, in_full: bool) -> None:
        """Follow a lower latency soon, and a higher one only while it cannot be the doing of these calls."""
        if not self.floor:
            self.floor = median
        elif median < self.floor:
            self.floor += 0.3 * (median - self.floor)
        elif not in_full:
            self.floor += 0.1 * (median - self.floor)

    def _measured(self) -> tuple[float, float]:
        """Return the median latency of a window, and about one standard error of it."""
        low, median, high = statistics.quantiles(self._latencies, n=4)
        return median, (high - low) / math.sqrt(len(self._latencies))

    def _end_probe(self) -> None:
        """Keep half of the limit if that made calls quicker: the floor had been measured while too many were made."""
        median, chance = self._measured()
        (limit, latency), self._probing = self._probing or (self.limit, median), None
        if median + 2 * chance < _PROBE_EASES * latency:
            self.floor, self._doubles = min(median, self.floor), False
        else:
            self.limit = limit

    def _shrink(self, median: float) -> None:
        self._doubles = False
        if self._shrinking is None:
            self._shrinking = (self.limit, median)
        limit, latency = self._shrinking
        if self.limit <= limit / 2 and median >= _EASES * latency:
            self.limit, self.floor, self._shrinking = limit, median, None
            return
        self.limit *= max(0.5, _NEAR * self.floor / median)

    @property
    def _places(self) -> int:
        return max(1, int(self.limit))

    def _hand_over(self) -> None:
        """Give free places to those who wait: left open, another task could take them before those wake up."""
        while self._waiting and self.in_use < self._places:
            turn = self._waiting.popleft()
            if not turn.done():  # one that was given up, and does not know yet
                self.in_use += 1
                turn.set_result(None)
