"""When something is tried again, and when it is not: exponential backoff with full jitter, and an end to it."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from consent.ledger.queue.tasks import CustomerTask
from consent.outcome import Outcome, PermanentFailure, Retry

_ODDS = random.SystemRandom()


WITNESSED_TRIES = 5
"""Tries of a change that the provider takes without keeping it, as it shows when it is asked what it holds."""

WITNESSED_CEILING = 30.0
"""Seconds between two of them at most: with the tries above, such a change is a dead letter within two minutes."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how far apart; seconds."""

    max_attempts: int
    first: float
    ceiling: float
    odds: random.Random = field(default=_ODDS)

    def wait(self, tries: int, ceiling: float = math.inf) -> float:
        """Return how long to wait before try number `tries` + 1: anything up to a bound that doubles.

        Full jitter, so that what failed together does not come back together.
        """
        bound = min(self.ceiling, ceiling, self.first * 2 ** min(tries, 30))
        return self.odds.uniform(bound / 10, bound)

    def decide(
        self, task: CustomerTask, outcomes: Mapping[int, Outcome], *, healthy: bool, own: Collection[int] = ()
    ) -> dict[int, Outcome]:
        """Return the outcomes with an end put to those that were tried often enough.

        Only answers about the change itself count, and only from a connection that is known to work (`healthy`):
        an outage, however long, kills nothing. A `witnessed` answer brings that knowledge with it. Of the changes in
        `own` it is known that others were served while these drew an answer that speaks of the connection: so it
        counts as well.
        """
        return {
            change.id: self._ended_while_others_were_served(outcomes[change.id], change.attempts)
            if change.id in own
            else self._ended(outcomes[change.id], change.attempts, healthy=healthy)
            for change in task.changes
            if change.id in outcomes
        }

    def put_off(self, task: CustomerTask, outcomes: Mapping[int, Outcome]) -> float:
        """Return the seconds until what is left of a task is tried again, 0 if nothing asks for a wait."""
        later = {number: outcome for number, outcome in outcomes.items() if isinstance(outcome, Retry)}
        if not later:
            return 0.0
        asked = max(outcome.after or 0.0 for outcome in later.values())
        # Where tries have counted, a call that fails on its way must not put off the next one for a quarter of an hour.
        counted = {change.id for change in task.changes if change.attempts}
        soon = all(outcome.witnessed or number in counted for number, outcome in later.items())
        ceiling = WITNESSED_CEILING if soon else math.inf
        return max(asked, self.wait(task.tries, ceiling))

    def _ended_while_others_were_served(self, outcome: Outcome, attempts: int) -> Outcome:
        if not isinstance(outcome, Retry) or outcome.counts:
            return self._ended(outcome, attempts, healthy=True)
        ended = self._ended(replace(outcome, counts=True), attempts, healthy=True)
        if not isinstance(ended, PermanentFailure):
            return ended
        words = f"given up after {attempts + 1} attempts while other customers were served: {outcome.reason}"
        return PermanentFailure(outcome.code, words)

    def _ended(self, outcome: Outcome, attempts: int, *, healthy: bool) -> Outcome:
        if not isinstance(outcome, Retry) or not outcome.counts:
            return outcome
        if not healthy and not outcome.witnessed:
            return replace(outcome, counts=False)
        if attempts + 1 < (min(WITNESSED_TRIES, self.max_attempts) if outcome.witnessed else self.max_attempts):
            return outcome
        return PermanentFailure(outcome.code, f"given up after {attempts + 1} attempts: {outcome.reason}")
