"""What a process gives itself while Redis cannot be asked: its share of a bucket's limit, never none.

That is written into the ledger before it is used, as what Redis gives out is: see `RateLimiter`.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from dataclasses import dataclass, field

import redis
import structlog

from consent.change import Bucket
from consent.connection import Rate
from consent.errors import LedgerUnavailable
from worker.ratelimit.write_ahead import WriteAhead

_log = structlog.get_logger()


@dataclass(slots=True)
class OwnShare:
    """The share of one of so many `processes`, by `interval`, the seconds between two permits of all of them.

    `starts` is the moment (of the monotonic clock) before which this process gives itself none: 0 while Redis answers.
    Neither does it before `pushed`, until when the provider asked to be left alone. `given_to` is the moment behind the
    last permit that it has given itself. May be asked from several threads at once: each gets moments of its own.
    """

    bucket: Bucket
    rate: Rate
    interval: float
    reservation_seconds: float
    processes: int
    written: WriteAhead | None = None
    starts: float = 0.0
    pushed: float = 0.0
    given_to: float = 0.0
    _written_to: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def lasts(self, now: float) -> float:
        """Take in that Redis has answered; return for how many seconds this process has permits of its own yet."""
        with self._lock:
            self.starts = 0.0
            return max(0.0, self.given_to - now)

    def push(self, until: float) -> None:
        """Let this process give itself none before a moment; of several, the latest one holds."""
        with self._lock:
            self.pushed = max(self.pushed, until)

    def moments(self, wanted: int, error: redis.RedisError) -> deque[float]:
        """Return the moments of up to `wanted` permits; the first one lies beyond what others have reserved."""
        with self._lock:
            return self._moments(time.monotonic(), wanted, error)

    def _moments(self, now: float, wanted: int, error: redis.RedisError) -> deque[float]:
        if not self.starts:
            self.starts = now + self.reservation_seconds + self.interval  # at once: another thread may look at it
            _log.warning(
                "rate_limit.redis_lost", bucket=str(self.bucket), share=self.processes, error=type(error).__name__
            )
        interval = self._interval
        first = max(now, self.starts, self.pushed)
        count = max(0, min(wanted, math.floor((now + self.reservation_seconds - first) / interval) + 1))
        if not count or not self._is_written(first + (count - 1) * interval, now):
            return deque()
        self.starts = self.given_to = first + count * interval
        return deque(first + n * interval for n in range(count))

    @property
    def _interval(self) -> float:
        """Seconds between two permits of one process of several that know nothing of each other.

        In each window every process makes the same whole number of calls, so that they keep the limit together
        whatever their phases; where there are more processes than calls, only on average.
        """
        each = max(1, int(self.rate.calls / self.processes))
        return max(self.interval * self.processes, self.interval * self.rate.calls / each)

    def _is_written(self, last: float, now: float) -> bool:
        """Write down what this process gives itself, up to the moment `last`; return whether it may."""
        if last <= self._written_to or self.written is None:
            return True
        ahead = last - now + self.written.ahead
        try:
            wait = self.written.extend_alone(ahead, self.interval)
        except LedgerUnavailable as error:
            _log.warning("rate_limit.not_written", bucket=str(self.bucket), reason=str(error))
            return False
        if wait:
            self.starts = max(self.starts, now + wait)
            return False
        self._written_to = now + ahead
        return True
