"""What became of each customer task of a delivery: outcomes, the calls that were made, and what they leave in doubt."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field

from consent.ledger.queue.tasks import WITNESS, Attempt, CustomerTask
from consent.outcome import Health, Healthy, Outcome, Retry
from worker.http.failures import NOTHING_SENT
from worker.providers.contract import Answer, Plan, Request


@dataclass(slots=True)
class TaskResult:
    """What became of one customer task so far: outcomes by change id, and the calls that were made.

    `in_doubt` says that a call went out whose answer never came, or was a proxy's: the provider may still be at it.
    `suspicion` is a bad answer about the connection that may be about this customer only, and the changes it was for.
    """

    task: CustomerTask
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    in_doubt: bool = False
    suspicion: Suspicion | None = None

    @property
    def counts(self) -> bool:
        """Whether there is an answer about a change that counts if the provider is known to work."""
        return any(isinstance(one, Retry) and one.counts for one in self.outcomes.values())

    @property
    def lacks_witness(self) -> bool:
        """Whether there is a bad answer of which it has to be found out whose fault it is."""
        counted = (one for one in self.outcomes.values() if isinstance(one, Retry) and one.counts)
        return self.suspicion is not None or any(not one.witnessed for one in counted)

    @property
    def called_at(self) -> int:
        """When the last call for its changes began (microseconds), 0 if there was none."""
        return max((one.at for one in self.attempts if one.purpose != WITNESS), default=0)

    @classmethod
    def of(cls, task: CustomerTask, plan: Plan) -> TaskResult:
        """Return what is decided about a task before any call."""
        return cls(task, {one.id: plan.outcomes[one.id] for one in task.changes if one.id in plan.outcomes})


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What a call was answered that may speak of the connection or only of one customer."""

    seen: Health
    call: Attempt


def note_call(
    request: Request,
    found: dict[int, TaskResult],
    call: tuple[int, float, int | None, Answer],
    *,
    in_doubt: bool,
) -> list[Attempt]:
    """Add a call to what became of each of its targets; return it as an attempt for each of them."""
    at, started, status, answer = call
    milliseconds, calls = int((time.monotonic() - started) * 1000), []
    for number, (key, ids) in enumerate(_by_target(request).items()):
        one = found[key]
        facts = (key, at, milliseconds, request.purpose, status, answer.code, tuple(ids))
        calls.append(Attempt(*facts, counts=number == 0))
        one.attempts.append(calls[-1])
        if not isinstance(answer.health, Healthy) and answer.code not in NOTHING_SENT:
            one.suspicion = Suspicion(answer.health, calls[-1])
        one.outcomes.update((i, answer.outcomes[i]) for i in ids if i in answer.outcomes)
        one.in_doubt = one.in_doubt or in_doubt
    return calls


def _by_target(request: Request) -> dict[int, list[int]]:
    if len(request.tasks) == 1:
        return {request.tasks[0].target_id: [change.id for change in request.changes]}
    asked = {change.id for change in request.changes}
    found: dict[int, list[int]] = defaultdict(list)
    for task in request.tasks:
        found[task.target_id].extend(change.id for change in task.changes if change.id in asked)
    return found
