"""What a delivery's results mean for their customer tasks, by what else the bucket has been seen to do."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from consent.errors import LedgerUnavailable
from consent.ledger.ledger import Ledger
from consent.ledger.queue.breakers import BucketHealth
from consent.ledger.queue.tasks import Attempt, Settlement
from consent.outcome import Throttled
from worker.delivery import breaker
from worker.delivery.bucket_context import BucketContext
from worker.delivery.observations import Observations
from worker.delivery.retry import RetryPolicy
from worker.delivery.task_result import TaskResult
from worker.providers.contract import Answer, Request

DOUBT = 3
"""Timeouts for which a call that timed out may still be at work on the other side."""

FEW = 10
"""So many customers may be left where a read is a witness against an answer that the provider itself gave."""

_log = structlog.get_logger()


@dataclass(slots=True)
class Settlements:
    """Judges what came of a delivery's calls; `before` is the bucket's health as it was when its window began."""

    ledger: Ledger
    context: BucketContext
    policy: RetryPolicy
    observations: Observations
    before: BucketHealth
    _paused: bool = False

    def settlement(self, one: TaskResult) -> Settlement:
        """Return what is to be written down of a customer task: what ended, and when the rest is tried again."""
        evidence = (one.task, one.called_at)
        healthy = one.counts and breaker.is_proven(self.ledger, self.before, self.observations, *evidence)
        outcomes = self.policy.decide(one.task, one.outcomes, healthy=healthy, own=self._own(one))
        wait_for = self.policy.put_off(one.task, outcomes)
        now = self.ledger.now()
        until = now + int(wait_for * 1_000_000) if wait_for else 0
        doubt = now + int(DOUBT * self.context.settings.timeout * 1_000_000) if one.in_doubt else 0
        return Settlement(one.task, outcomes, tuple(one.attempts), until, bool(one.attempts), doubt)

    def conclude(self) -> None:
        """Write down what has been learnt of the bucket."""
        breaker.conclude(self.ledger, self.before, self.observations)

    def witness(self, one: TaskResult) -> Request | None:
        """Return a harmless read, if nothing else is left that could be a witness: about the customer served last.

        Where the provider itself says that it failed, a read about this same customer will do. But it may be the
        writing that is broken, for everybody: so reads are witnesses only where few customers are left.
        """
        queue, bucket = self.ledger.queue, self.context.bucket
        if queue.due(bucket, 1):
            return None
        served_id, other = self.ledger.breakers.health_of(str(bucket)).served_id, None
        if served_id not in (None, one.task.target_id):
            other = queue.customer(served_id)
        if one.suspicion is None:
            if queue.left(bucket, FEW + 1) > FEW:
                return None
            other = other or one.task
        return None if other is None else self.context.provider.witness(other, self.context.settings)

    def throttled(self, request: Request, answer: Answer, call: Attempt, asked: bool) -> bool:  # noqa: FBT001
        """Slow every process at once: the rate limiter those that reserve, the ledger those that come later.

        Return False, and slow no process, if only this customer draws that answer while others are served. Where the
        provider did not say for how long (`asked`), the first waits are short: then another customer is tried.
        """
        seconds = (answer.health.after if isinstance(answer.health, Throttled) else None) or breaker.THROTTLE_SECONDS
        self.observations.recent.note([task.target_id for task in request.tasks], served=False)
        try:
            if len(request.tasks) == 1 and request.tasks[0].tries:
                evidence = (request.tasks[0], call, answer.health)
                if breaker.is_its_own(self.ledger, self.before, self.observations, *evidence):
                    return False
            if self._paused and not asked:
                return True  # it was said to several calls at once
            if not asked:
                seconds = self.context.pause(seconds, self.before.trips)
            self._paused = True
            self.context.rate_limiter.push(seconds)
            breaker.throttle(self.ledger, self.context.bucket, seconds)
        except LedgerUnavailable as error:
            self.context.rate_limiter.push(seconds)
            _log.warning("throttle.not_noted", bucket=str(self.context.bucket), reason=str(error))
        return True

    def _own(self, one: TaskResult) -> frozenset[int]:
        """Return the changes whose bad answer says nothing of the bucket, because it serves others."""
        if one.suspicion is None:
            return frozenset()
        evidence = (one.task, one.suspicion.call, one.suspicion.seen)
        if not breaker.is_its_own(self.ledger, self.before, self.observations, *evidence):
            return frozenset()
        self.observations.excuse(one.task.target_id)
        return frozenset(one.suspicion.call.change_ids)
