"""What became of each customer task of a delivery: outcomes, the calls that were made, and what they leave in doubt.

And what follows at once where many draw one failure: the ledger counts when results are written down, twice a second. A
delivery sees them sooner: it makes no further call for an import that has reached the limit, has its results written
down at once, and then does what the ledger says.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from consent.change import Action
from consent.guards.fuse import FuseRules, FuseState
from consent.ledger.queue.tasks import WITNESS, Attempt, CustomerTask
from consent.outcome import Applied, Health, Healthy, Outcome, PermanentFailure, Retry, Unchanged
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


_SETTLED = (Applied, Unchanged, PermanentFailure)


@dataclass(slots=True)
class FuseWatch:
    """Which of a delivery's claimed customers are not to be called; asked inside the event loop, told outside of it.

    `suspects` are imports of which enough customers in a row have drawn a failure of our request, `held` the targets of
    which the ledger holds everything.
    """

    rules: FuseRules
    suspects: frozenset[str] = frozenset()
    held: frozenset[int] = frozenset()
    _alike: dict[str, tuple[str, set[int]]] = field(default_factory=dict)

    def note(self, one: TaskResult) -> None:
        """Take in what became of a customer; to be called inside the event loop, once it has been reported."""
        failed = any(isinstance(outcome, PermanentFailure) for outcome in one.outcomes.values())
        if not self.rules.in_a_row or not (failed or self._alike):
            return
        for change in one.task.changes:
            outcome = one.outcomes.get(change.id)
            if isinstance(outcome, PermanentFailure) and outcome.ours:
                code, whose = self._alike.get(change.import_id, ("", set()))
                whose = whose if code == outcome.code else set()
                whose.add(one.task.target_id)
                self._alike[change.import_id] = outcome.code, whose
                if len(whose) >= self.rules.in_a_row:
                    self.suspects |= {change.import_id}
                    del self._alike[change.import_id]
            elif isinstance(outcome, _SETTLED):
                self._alike.pop(change.import_id, None)

    def holds(self, request: Request) -> bool:
        """Whether a request is not to be sent: all that it carries is held, or may be in a moment."""
        if self.suspects and all(change.import_id in self.suspects for change in request.changes):
            return True
        return bool(self.held) and all(task.target_id in self.held for task in request.tasks)

    def follow(self, stops: Mapping[str, FuseState], claimed: Iterable[CustomerTask], known: frozenset[str]) -> None:
        """Do what the ledger says of what is claimed, and suspect those no more that were `known` before it said so."""
        self.held = frozenset(
            task.target_id
            for task in claimed
            if stops and all(_stopped(stops.get(change.import_id), change.action) for change in task.changes)
        )
        self.suspects -= known

    def claimed(self, tasks: Iterable[CustomerTask]) -> None:
        """Take in that the ledger has given out these tasks now: so it does not hold them any more."""
        if self.held:
            self.held -= {task.target_id for task in tasks}


def _stopped(state: FuseState | None, action: Action) -> bool:
    return state is not None and (state is not FuseState.OPTOUTS or action is Action.OPTIN)
