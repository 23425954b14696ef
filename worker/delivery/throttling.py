"""What happens on a 429: for how long no process calls in a bucket, unless the answer is about one customer alone.

A provider's `codes.py` makes a reply `THROTTLED`, `worker/providers/classify.py` lets its changes wait uncounted, and
`breaker.py` opens if every customer draws it. In between stands this: the pause.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

import structlog

from consent.change import Bucket
from consent.errors import LedgerUnavailable
from consent.ledger.ledger import Ledger
from consent.ledger.queue.breakers import BucketHealth
from consent.ledger.queue.tasks import Attempt
from consent.outcome import Throttled
from worker.delivery import evidence
from worker.delivery.breaker import Observations
from worker.delivery.bucket_context import BucketContext
from worker.delivery.results import Call

USUAL_SECONDS = 60.0
"""The pause where neither the reply nor the provider's page says how long it is."""

_COUNT_FOR = 120.0
_FIRST_PART = 32
_SHORTEST = 1.0
_LATELY = threading.Lock()
"""Held by who changes when a bucket was throttled: each call that draws a 429 does, in a thread of its own."""

_log = structlog.get_logger()


@dataclass(slots=True)
class Throttling:
    """Slows a bucket down for one delivery; `before` is the bucket's health as it was when its window began."""

    ledger: Ledger
    context: BucketContext
    observations: Observations
    before: BucketHealth
    _seconds: float | None = None

    def slow_down(self, call: Call, made: Attempt, *, asked: bool) -> float | None:
        """Slow every process at once: the rate limiter those that reserve, the ledger those that come later.

        Return for how many seconds; None, and slow no process, if only this customer draws that answer while others are
        served. Where the provider did not say for how long (`asked`), the first waits are short: then another customer
        is tried.
        """
        seen, tasks = call.answer.health, call.request.tasks
        seconds = (seen.after if isinstance(seen, Throttled) else None) or USUAL_SECONDS
        self.observations.recent.note(call.targets, served=False)
        try:
            if len(tasks) == 1 and tasks[0].tries:
                found = (tasks[0], made, seen)
                if evidence.is_its_own(self.ledger, self.before, self.observations, *found):
                    return None
            with _LATELY:
                if self._seconds is not None and not asked:
                    return self._seconds  # it was said to several calls at once
                if not asked:
                    seconds = _growing(self.context.throttled_at, seconds, self.before.trips)
                self._seconds = seconds
            self.context.rate_limiter.push(seconds)
            throttle(self.ledger, self.context.bucket, seconds)
        except LedgerUnavailable as error:
            self.context.rate_limiter.push(seconds)
            _log.warning("throttle.not_noted", bucket=str(self.context.bucket), reason=str(error))
        return seconds


def throttle(ledger: Ledger, bucket: Bucket, seconds: float) -> None:
    """Let no process make a call in a bucket for so many seconds: its provider asked for it."""
    ledger.breakers.throttle(str(bucket), until=ledger.now() + int(seconds * 1_000_000))


def _growing(lately: deque[float], longest: float, trips: int) -> float:
    """Return for how many seconds no process calls after a 429 that does not say for how long.

    At first it is a small part of `longest`, because it may be said to one customer only; another one will show. It
    doubles with each of the last minutes (`lately`, monotonic seconds, to which this one is added) and each probe that
    failed (`trips`): where every customer is throttled, the provider is soon left alone for as long as it likes.
    """
    now = time.monotonic()
    while lately and now - lately[0] > _COUNT_FOR:
        lately.popleft()
    lately.append(now)
    doubled = min(max(len(lately) - 1, trips), 10)
    return min(longest, max(_SHORTEST, longest / _FIRST_PART) * float(1 << doubled))
