"""What one worker process needs to deliver within one bucket: provider, HTTP sender, rate limit, concurrency."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog
from aiolimiter import AsyncLimiter

from consent.change import Bucket
from consent.connection import ConnectionSettings, Rate
from consent.errors import place_of
from consent.ledger.queue.overlaps import Overlap
from consent.ledger.queue.tasks import CustomerTask
from consent.outcome import Outcome, Retry
from worker.delivery.concurrency import ConcurrencyLimit
from worker.http.client import Sender
from worker.providers.contract import Plan, Provider
from worker.ratelimit.limiter import RateLimiter
from worker.ratelimit.permits import Permits, turn_of

_log = structlog.get_logger()
_CAP_SECONDS = 0.25
_HEADROOM = 1.1
_FIRST_GUESS_SECONDS = 0.05
_PAUSES_COUNT_FOR = 120.0
_FIRST_PAUSE = 32
_SHORTEST_PAUSE = 1.0


@dataclass(slots=True)
class BucketContext:
    """Everything that a delivery within one limit of one connection needs in one process."""

    bucket: Bucket
    settings: ConnectionSettings
    provider: Provider
    sender: Sender
    rate_limiter: RateLimiter
    process_cap: AsyncLimiter
    concurrency: ConcurrencyLimit
    targets_per_call: int = 1
    call_seconds: float = _FIRST_GUESS_SECONDS
    _pauses: deque[float] = field(default_factory=deque)

    @property
    def name(self) -> str:
        """The connection's name."""
        return self.bucket.connection

    @property
    def overlap(self) -> Overlap | None:
        """How slots overlap in this bucket, None if they do not."""
        return self.provider.overlap(self.bucket.name)

    def permits(self, stopped: Callable[[], bool]) -> Permits:
        """Return what hands out permits to one delivery, until that has `stopped`."""
        return Permits(self.rate_limiter, self.process_cap, self.permits_for, stopped)

    def note_call(self, seconds: float) -> None:
        """Learn how long a call takes lately."""
        self.call_seconds += 0.1 * (seconds - self.call_seconds)

    def plan(self, tasks: Sequence[CustomerTask]) -> Plan:
        """Turn tasks into requests; one with which the provider's code fails waits, and takes no other with it."""
        try:
            return self.provider.plan(tasks, self.settings)
        except Exception:  # noqa: BLE001 - which task it is comes out below
            parts = [self._plan_one(task) for task in tasks]
        outcomes: dict[int, Outcome] = {}
        for part in parts:
            outcomes.update(part.outcomes)
        return Plan(tuple(series for part in parts for series in part.series), outcomes)

    def _plan_one(self, task: CustomerTask) -> Plan:
        try:
            return self.provider.plan([task], self.settings)
        except Exception as error:  # noqa: BLE001 - whatever it is, its neighbours must not suffer
            where = place_of(error)
            _log.error("task.unplannable", bucket=str(self.bucket), error=where)
            later = Retry("unplannable", f"the worker could make no request of it ({where})", counts=True)
            return Plan((), {change.id: later for change in task.changes})

    def pause(self, longest: float, trips: int) -> float:
        """Return for how many seconds no process calls after a 429 that does not say for how long.

        At first it is a small part of `longest`, because it may be said to one customer only; another one will show.
        It doubles with each of the last minutes and each probe that failed (`trips`): where every customer is
        throttled, the provider is soon left alone for as long as it likes.
        """
        now = time.monotonic()
        while self._pauses and now - self._pauses[0] > _PAUSES_COUNT_FOR:
            self._pauses.popleft()
        self._pauses.append(now)
        doubled = min(max(len(self._pauses) - 1, trips), 10)
        return min(longest, max(_SHORTEST_PAUSE, longest / _FIRST_PAUSE) * float(1 << doubled))

    def reach(self, seconds: float) -> int:
        """Return how many calls this process can make in so many seconds, going by the latest ones."""
        return max(1, int(self.concurrency.limit * seconds / max(self.call_seconds, 0.001)))

    def batch_size(self, most: int) -> int:
        """Return how many calls one batch should hold: half a reservation window's worth, and no more than it can make.

        Half, so that two deliveries can keep the reservations ahead of the clock between them. Permits of one batch lie
        side by side: where calls last so long that all of it would be under way at once, it is half of the concurrency
        limit, so that the other half is left for the next one. With quick calls, that would make many small claims.
        """
        ahead, half = self.rate_limiter.reservation_seconds / 2, max(1, int(self.concurrency.limit / 2))
        allowed = max(1, int(ahead / self.rate_limiter.interval))
        if self.call_seconds > max(half * self.rate_limiter.interval, ahead / 10):
            allowed = min(allowed, half)
        return min(most, allowed, self.reach(ahead))

    def permits_for(self, calls: int) -> int:
        """Return how many permits to reserve for so many calls: no more than can be used before they are lost.

        Where this process is slower than the limit, permits pass while all its calls are under way, and those it holds
        are missing elsewhere: then it takes only as many as it can use within the tolerance, or may use late, and more
        soon after.
        """
        turn = turn_of(self.rate_limiter) or calls
        behind = self.call_seconds / self.concurrency.limit - self.rate_limiter.interval
        if behind <= 0:
            return min(calls, self.batch_size(calls), turn)
        in_time = int(self.concurrency.limit) + int(self.rate_limiter.tolerance / behind)
        return min(calls, max(in_time, self.rate_limiter.spare_calls))


def process_cap(rate: Rate) -> AsyncLimiter:
    """Return a limiter that no single process can outrun, whatever the shared rate limiter says.

    A tenth above the limit: a cap as tight as the limit itself would never work off a backlog.
    """
    calls = max(1.0, rate.per_second * _CAP_SECONDS)
    return AsyncLimiter(calls, calls * rate.interval / _HEADROOM)
