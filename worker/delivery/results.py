"""What became of the customer tasks of a delivery, by their calls; and when something is tried again, or is not.

Exponential backoff with full jitter, and an end to it. Whose fault a failure was decides what counts: an outage kills
nothing, and a change that fails alone has an end.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from consent.ledger.ledger import Ledger
from consent.ledger.queue.breakers import BucketHealth
from consent.ledger.queue.tasks import WITNESS, Attempt, CustomerTask, Settlement
from consent.outcome import Applied, Health, Healthy, Outcome, PermanentFailure, Retry, Unchanged
from worker.delivery import evidence
from worker.delivery.breaker import Observations
from worker.delivery.bucket_context import BucketContext
from worker.http.failures import NOTHING_SENT, Failure
from worker.providers.contract import Answer, Request

_ODDS = random.SystemRandom()

DOUBT = 3
"""Timeouts for which a call that timed out may still be at work on the other side."""

FEW = 10
"""So many customers may be left where a read is a witness against an answer that the provider itself gave."""

WITNESSED_TRIES = 5
"""Tries of a change that the provider takes without keeping it, as it shows when it is asked what it holds."""

WITNESSED_CEILING = 30.0
"""Seconds between two of them at most: with the tries above, such a change is a dead letter within two minutes."""

INTERRUPTED = "interrupted"
"""The code of a call that was under way when the worker was stopped."""

_GIVEN_UP = {Failure.TIMED_OUT.value, INTERRUPTED, "504", "524"}
"""The codes of calls for which the worker, or a proxy, lost patience: most likely the provider is still at work."""

_SETTLED = (Applied, Unchanged, PermanentFailure)


@dataclass(slots=True)
class Call:
    """A call that has ended: when it began (microseconds), how many seconds it took, and what was answered.

    `status` is None where no reply came. `in_doubt` says that a call went out whose answer never came, or was a
    proxy's: the provider may still be at it.
    """

    request: Request
    at: int
    seconds: float
    status: int | None
    answer: Answer
    in_doubt: bool = False

    @property
    def may_repeat(self) -> bool:
        """Whether the same may be sent again while it is in doubt: the connection broke, and no one lost patience."""
        return self.in_doubt and self.answer.code not in _GIVEN_UP

    @property
    def targets(self) -> list[int]:
        """The targets that it was for."""
        return [task.target_id for task in self.request.tasks]

    @property
    def served(self) -> list[int]:
        """Up to two of the targets of which the answer settled a change: that proves that the provider works."""
        tasks = self.request.tasks
        settled = {number for number, outcome in self.answer.outcomes.items() if isinstance(outcome, _SETTLED)}
        if not settled or len(tasks) == 1:
            return [tasks[0].target_id] if settled else []
        return list(islice((task.target_id for task in tasks if any(one.id in settled for one in task.changes)), 2))


@dataclass(slots=True)
class TaskResult:
    """What became of one customer task so far: outcomes by change id, and the calls that were made.

    `in_doubt` and `may_repeat` say that of the last call (see `Call`), `suspicion` is a bad answer about the
    connection that may be about this customer only, and the changes it was for.
    """

    task: CustomerTask
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    in_doubt: bool = False
    may_repeat: bool = False
    suspicion: Suspicion | None = None

    @property
    def counts(self) -> bool:
        """Whether there is an answer about a change that counts if the provider is known to work."""
        return any(isinstance(one, Retry) and one.counts for one in self.outcomes.values())

    @property
    def lacks_witness(self) -> bool:
        """Whether there is a bad answer of which it has to be found out whose fault it is."""
        if self.suspicion is not None:
            return True
        return any(isinstance(one, Retry) and one.counts and not one.witnessed for one in self.outcomes.values())

    @property
    def called_at(self) -> int:
        """When the last call for its changes began (microseconds), 0 if there was none."""
        return max((one.at for one in self.attempts if one.purpose != WITNESS), default=0)


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What a call was answered that may speak of the connection or only of one customer."""

    seen: Health
    call: Attempt


def note_call(call: Call, found: dict[int, TaskResult]) -> list[Attempt]:
    """Add a call to what became of each of its targets; return it as an attempt for each of them."""
    request, answer, made = call.request, call.answer, []
    for number, (target, ids) in enumerate(_by_target(request).items()):
        one = found[target]
        facts = (target, call.at, int(call.seconds * 1000), request.purpose, call.status, answer.code, tuple(ids))
        made.append(Attempt(*facts, counts=number == 0))
        one.attempts.append(made[-1])
        if not isinstance(answer.health, Healthy) and answer.code not in NOTHING_SENT:
            one.suspicion = Suspicion(answer.health, made[-1])
        one.outcomes.update((i, answer.outcomes[i]) for i in ids if i in answer.outcomes)
        if call.in_doubt:
            one.in_doubt, one.may_repeat = True, call.may_repeat
    return made


def put_off(call: Call, found: Mapping[int, TaskResult], seconds: float) -> None:
    """Let what a call drew that was throttled wait for as long as its bucket does: no customer waits longer."""
    for target, ids in _by_target(call.request).items():
        outcomes = found[target].outcomes
        outcomes.update((i, replace(one, after=seconds)) for i in ids if isinstance(one := outcomes.get(i), Retry))


def _by_target(request: Request) -> dict[int, list[int]]:
    if len(request.tasks) == 1:
        return {request.tasks[0].target_id: [change.id for change in request.changes]}
    asked = {change.id for change in request.changes}
    found: dict[int, list[int]] = defaultdict(list)
    for task in request.tasks:
        found[task.target_id].extend(change.id for change in task.changes if change.id in asked)
    return found


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
        message = f"given up after {attempts + 1} attempts while other customers were served: {outcome.reason}"
        return PermanentFailure(outcome.code, message)

    def _ended(self, outcome: Outcome, attempts: int, *, healthy: bool) -> Outcome:
        if not isinstance(outcome, Retry) or not outcome.counts:
            return outcome
        if not healthy and not outcome.witnessed:
            return replace(outcome, counts=False)
        if attempts + 1 < (min(WITNESSED_TRIES, self.max_attempts) if outcome.witnessed else self.max_attempts):
            return outcome
        return PermanentFailure(outcome.code, f"given up after {attempts + 1} attempts: {outcome.reason}")


@dataclass(slots=True)
class Retries:
    """What of a delivery's results is over and when the rest is tried again, by what else its bucket was seen to do.

    `before` is the bucket's health as it was when the delivery's window began.
    """

    ledger: Ledger
    context: BucketContext
    policy: RetryPolicy
    observations: Observations
    before: BucketHealth

    def settlement(self, one: TaskResult) -> Settlement:
        """Return what is to be written down of a customer task: what ended, and when the rest is tried again."""
        found = (one.task, one.called_at)
        healthy = one.counts and evidence.is_proven(self.ledger, self.before, self.observations, *found)
        outcomes = self.policy.decide(one.task, one.outcomes, healthy=healthy, own=self._own(one))
        wait_for = self.policy.put_off(one.task, outcomes)
        now = self.ledger.now()
        until = now + int(wait_for * 1_000_000) if wait_for else 0
        doubt = now + int(DOUBT * self.context.settings.timeout * 1_000_000) if one.in_doubt else 0
        return Settlement(one.task, outcomes, tuple(one.attempts), until, bool(one.attempts), doubt, one.may_repeat)

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

    def _own(self, one: TaskResult) -> frozenset[int]:
        """Return the changes whose bad answer says nothing of the bucket, because it serves others."""
        if one.suspicion is None:
            return frozenset()
        found = (one.task, one.suspicion.call, one.suspicion.seen)
        if not evidence.is_its_own(self.ledger, self.before, self.observations, *found):
            return frozenset()
        self.observations.excuse(one.task.target_id)
        return frozenset(one.suspicion.call.change_ids)
