"""What one worker process needs to deliver within one bucket: provider, HTTP sender, rate limit, concurrency."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from aiolimiter import AsyncLimiter

from consent.change import Bucket
from consent.connection import ConnectionSettings, Rate
from consent.errors import place_of
from consent.ledger.queue.overlaps import Overlap
from consent.ledger.queue.tasks import CustomerTask
from consent.outcome import Retry
from worker.delivery.concurrency import ConcurrencyLimit
from worker.http.client import Sender
from worker.providers.contract import Plan, Provider
from worker.ratelimit.limiter import RateLimiter

_CAP_SECONDS = 0.25
_HEADROOM = 1.1
_FIRST_GUESS_SECONDS = 0.05
_log = structlog.get_logger()


@dataclass(slots=True)
class BucketContext:
    """Everything that a delivery within one limit of one connection needs in one process.

    `overlap` says how slots overlap in this bucket (None if they do not), `call_seconds` how long calls take lately.
    `throttled_at` are the moments of late (monotonic seconds) at which it was throttled without being told how long.
    """

    bucket: Bucket
    settings: ConnectionSettings
    provider: Provider
    sender: Sender
    rate_limiter: RateLimiter
    process_cap: AsyncLimiter
    concurrency: ConcurrencyLimit
    overlap: Overlap | None
    targets_per_call: int = 1
    call_seconds: float = _FIRST_GUESS_SECONDS
    throttled_at: deque[float] = field(default_factory=deque)

    @property
    def longest_probe(self) -> float:
        """Seconds after which a delivery that holds the one probe is taken for dead, so that others may try."""
        return self.settings.timeout + self.rate_limiter.reservation_seconds + 1.0

    def plan_apart(self, tasks: Sequence[CustomerTask], error: Exception) -> Plan:
        """Plan each task alone, where the provider's code failed with all of them; one with which it fails waits."""
        if len(tasks) > 1:
            parts = [self._plan_alone(task) for task in tasks]
            outcomes = {number: one for part in parts for number, one in part.outcomes.items()}
            return Plan(tuple(series for part in parts for series in part.series), outcomes)
        where = place_of(error)
        _log.error("task.unplannable", bucket=str(self.bucket), error=where)
        later = Retry("unplannable", f"the worker could make no request of it ({where})", counts=True)
        return Plan((), {change.id: later for task in tasks for change in task.changes})

    def _plan_alone(self, task: CustomerTask) -> Plan:
        try:
            return self.provider.plan([task], self.settings)
        except Exception as error:  # noqa: BLE001 - whatever it is, its neighbours must not suffer
            return self.plan_apart([task], error)


def process_cap(rate: Rate) -> AsyncLimiter:
    """Return a limiter that no single process can outrun, whatever the shared rate limiter says.

    A tenth above the limit: a cap as tight as the limit itself would never work off a backlog.
    """
    calls = max(1.0, rate.per_second * _CAP_SECONDS)
    return AsyncLimiter(calls, calls * rate.interval / _HEADROOM)
