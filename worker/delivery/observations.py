"""What a delivery has seen: what became of each customer task, and who of its bucket was served, and who refused."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from consent.ledger.queue.tasks import WITNESS, Attempt, CustomerTask
from consent.outcome import (
    Applied,
    Health,
    Healthy,
    Outcome,
    PermanentFailure,
    Retry,
    Throttled,
    Unauthorized,
    Unavailable,
    Unchanged,
)
from worker.http.failures import NOTHING_SENT, Failure
from worker.providers.contract import Answer, Request

FAILURES_TO_OPEN = 5
"""Failed calls in a row, with no customer served between them, that open the breaker."""

REFUSALS_TO_STOP = 3
"""Unauthorized calls in a row, with no customer served between them, after which a delivery makes no further call."""

FEW_THROTTLED, SERVED_FOR_EACH_THROTTLED = 10, 3
"""So many customers may draw a 429 of their own. Where more do, so many must be served for each of them."""

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


def _by_target(request: Request) -> dict[int, list[int]]:
    if len(request.tasks) == 1:
        return {request.tasks[0].target_id: [change.id for change in request.changes]}
    asked = {change.id for change in request.changes}
    found: dict[int, list[int]] = defaultdict(list)
    for task in request.tasks:
        found[task.target_id].extend(change.id for change in task.changes if change.id in asked)
    return found


@dataclass(slots=True)
class RecentCustomers:
    """Which customers of a bucket were served lately and which were throttled, as this process has seen it."""

    _seen: deque[tuple[int, bool]] = field(default_factory=lambda: deque(maxlen=5_000))

    def note(self, targets: Iterable[int], *, served: bool) -> None:
        """Take in an answer about these targets."""
        self._seen.extend((target, served) for target in targets)

    def mostly_serves(self, *, but: int) -> bool:
        """Whether nearly all others were served lately: where many are throttled, it is the limit that speaks."""
        served: set[int] = set()
        throttled: set[int] = set()
        for target, well in tuple(self._seen):
            if target != but:
                (served if well else throttled).add(target)
        return len(throttled) <= FEW_THROTTLED or len(served) >= SERVED_FOR_EACH_THROTTLED * len(throttled)


@dataclass(slots=True)
class Observations:
    """What one delivery has seen of its bucket in this window, and whether it should go on.

    A bad answer is at first only what one customer drew: its targets are `suspects` until another one is served.
    `unfit` says that the bucket cannot be called at all, `throttled` that every customer has to wait. `blamed` says
    that an answer may be the fault of its change: then it matters when the bucket last did well.
    """

    blamed: bool = False
    answered: bool = False
    failures: int = 0
    refusals: int = 0
    unfit: Unauthorized | None = None
    throttled: Throttled | None = None
    suspects: dict[int, Unauthorized | Unavailable] = field(default_factory=dict)
    recent: RecentCustomers = field(default_factory=RecentCustomers)
    _served: dict[int, int] = field(default_factory=dict)
    _read_at: int | None = None

    def note(self, seen: Health, targets: Iterable[int] = (), *, served: Iterable[int] = (), at: int = 0) -> None:
        """Take in one answer to a call that began `at` (microseconds); of some, who are `served`, it settled a change.

        A call says how the provider was when it began: one that is slow may still be served while all others fail.
        """
        if isinstance(seen, Healthy):
            self.answered, self.failures = True, 0
            self._serve(served, at)
        elif isinstance(seen, Unavailable):
            self.failures += 1
            self._suspect(targets, seen)
        elif isinstance(seen, Unauthorized):
            self.refusals += 1
            self._suspect(targets, seen)
        elif isinstance(seen, Throttled):
            self.throttled = seen
            self._suspect(targets, Unavailable("throttled"))

    def begin_window(self) -> None:
        """Forget what was seen, as a new delivery has seen nothing: what served a minute ago may be down by now.

        What stops this delivery is kept for its end.
        """
        if self.stop:
            return
        self.blamed = self.answered = False
        self.failures = self.refusals = 0
        self.suspects.clear()
        self._served.clear()
        self._read_at = None

    def vouch(self, at: int) -> None:
        """Take in that a harmless read was answered well, which began at this moment.

        It is a witness in this window only: that a provider can be read is no news for the customers of others.
        """
        self.answered, self._read_at, self.refusals = True, max(at, self._read_at or 0), 0
        self.suspects.clear()

    def excuse(self, target: int) -> None:
        """Take in that the bad answers about a target are its own, and say nothing of the bucket."""
        self.suspects.pop(target, None)
        if not self.suspects:
            self.failures = self.refusals = 0

    @property
    def proven(self) -> bool:
        """Whether the bucket settled a change of any customer in this window, or a harmless read was answered."""
        return bool(self._served) or self._read_at is not None

    @property
    def last_served(self) -> tuple[int, int] | None:
        """Of the targets that were served, the one whose call began last, and when."""
        return max(self._served.items(), key=lambda one: one[1], default=None)

    def served_since(self, at: int, *, but: int) -> bool:
        """Whether another target was served by a call that began at that moment or later, or a read was answered."""
        if self._read_at is not None and self._read_at >= at:
            return True
        return any(target != but and moment >= at for target, moment in tuple(self._served.items()))

    @property
    def stop(self) -> bool:
        """Whether to make no further call in this delivery."""
        stopped = self.unfit is not None or self.throttled is not None
        return stopped or self.refusals >= REFUSALS_TO_STOP or self.failures >= FAILURES_TO_OPEN

    def _suspect(self, targets: Iterable[int], seen: Unauthorized | Unavailable) -> None:
        self.blamed = True
        for target in targets or (0,):
            self.suspects[target] = seen

    def _serve(self, targets: Iterable[int], at: int) -> None:
        """Keep two whose calls began last: one of them is another customer than any that is asked about."""
        targets, kept = tuple(targets), self._served
        self.recent.note(targets, served=True)
        for target in targets:
            kept[target] = max(at, kept.get(target, at))
            self.refusals = 0
            if self.suspects:
                self.suspects = {one: seen for one, seen in self.suspects.items() if one == target}
        while len(kept) > 2:  # noqa: PLR2004
            del kept[min(kept, key=kept.__getitem__)]
