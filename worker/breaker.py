"""Stopping the calls in a bucket that is down or refuses us, and finding out when it is well again.

What opens it stands in the ledger, so every process stops; half-open is one probe, won by one process.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from consent.bucket import Bucket
from consent.errors import ConfigurationError, place_of
from consent.ledger import health
from consent.ledger.health import Breaker, BucketHealth, Trouble
from consent.ledger.ledger import Ledger
from consent.ledger.work import Attempt, CustomerTask
from consent.outcome import Health, Refused, Throttled, Unwell, Well

FAILURES_TO_OPEN = 5
REFUSALS_TO_STOP = 3
"""Refused calls in a row, with nobody served between them, after which a delivery makes no further call."""

PROBES_TO_CONFIRM = 3
"""Openings in a row after which a refusal is the connection's: each was another customer's, if there is any."""

PROBES_TO_DOUBT = 6
"""The same where somebody was served less than a minute before: many refused customers may stand in the queue."""

_JUST_NOW = 60_000_000

THROTTLE_SECONDS = 60.0
_WELL_AGAIN_AFTER = 1_000_000
_ODDS = random.SystemRandom()

Bad = Refused | Unwell | Throttled

FEW_THROTTLED, SERVED_FOR_EACH_THROTTLED = 10, 3
"""So many customers may draw a 429 of their own. Where more do, so many must be served for each of them."""


@dataclass(slots=True)
class RecentCustomers:
    """Who was served in a bucket lately and who was told to slow down, as this process has seen it."""

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
    """What one delivery has seen of its bucket, and whether it should go on.

    A bad answer is at first only what one customer drew: its targets are `suspects` until another one is served.
    `unfit` says that the bucket cannot be called at all, `throttled` that everybody has to wait. `blamed` says that an
    answer may be the fault of its change: then it matters when the bucket last did well.
    """

    blamed: bool = False
    answered: bool = False
    failures: int = 0
    refusals: int = 0
    unfit: Refused | None = None
    throttled: Throttled | None = None
    suspects: dict[int, Refused | Unwell] = field(default_factory=dict)
    recent: RecentCustomers = field(default_factory=RecentCustomers)
    _served: dict[int, int] = field(default_factory=dict)

    def note(self, seen: Health, targets: Iterable[int] = (), *, served: Iterable[int] = (), at: int = 0) -> None:
        """Take in one answer about these targets; some are `served`: it settled a change of theirs, at this moment."""
        match seen:
            case Well():
                self.answered, self.failures = True, 0
                self._serve(served, at)
            case Unwell():
                self.failures += 1
                self._suspect(targets, seen)
            case Refused():
                self.refusals += 1
                self._suspect(targets, seen)
            case Throttled():
                self.throttled = seen
                self._suspect(targets, Unwell("throttled"))

    def vouch(self, target: int, at: int) -> None:
        """Take in that a harmless read about another customer was answered well."""
        self.answered = True
        self._serve((target,), at)

    def excuse(self, target: int) -> None:
        """Take in that the bad answers about a target are its own, and say nothing of the bucket."""
        self.suspects.pop(target, None)
        if not self.suspects:
            self.failures = self.refusals = 0

    @property
    def proven(self) -> bool:
        """Whether the bucket settled something for somebody in this delivery."""
        return bool(self._served)

    @property
    def last_served(self) -> tuple[int, int] | None:
        """The target that was served last, and when."""
        return max(self._served.items(), key=lambda one: one[1], default=None)

    def served_since(self, at: int, *, but: int) -> bool:
        """Whether another target was served at that moment or later."""
        return any(target != but and moment >= at for target, moment in tuple(self._served.items()))

    @property
    def stop(self) -> bool:
        """Whether to make no further call in this delivery."""
        told = self.unfit is not None or self.throttled is not None
        return told or self.refusals >= REFUSALS_TO_STOP or self.failures >= FAILURES_TO_OPEN

    def _suspect(self, targets: Iterable[int], seen: Refused | Unwell) -> None:
        self.blamed = True
        for target in targets or (0,):
            self.suspects[target] = seen

    def _serve(self, targets: Iterable[int], at: int) -> None:
        """Keep the last two that were served: one of them is another customer than any that is asked about."""
        targets = tuple(targets)
        self.recent.note(targets, served=True)
        for target in targets:
            self._served.pop(target, None)
            self._served[target] = at
            self.refusals = 0
            for suspect in [one for one in self.suspects if one != target]:
                del self.suspects[suspect]
        while len(self._served) > 2:  # noqa: PLR2004
            del self._served[next(iter(self._served))]


def is_probe(found: BucketHealth) -> bool:
    """Whether a call in this bucket would be the probe of an open breaker: then one task is enough."""
    return found.breaker is not Breaker.CLOSED


def openings_to_confirm(found: BucketHealth) -> int:
    """Return after how many openings in a row a refusal is the connection's, and not that of single customers."""
    just_now = found.well_at is not None and (found.opened_at or 0) - found.well_at < _JUST_NOW
    return PROBES_TO_DOUBT if just_now else PROBES_TO_CONFIRM


def win_probe(ledger: Ledger, found: BucketHealth, seconds: float) -> bool:
    """Win, or not, the one probe; whoever wins has so many seconds for it before another may try."""
    now = ledger.now()
    return health.take_probe(ledger.database, found.name, now=now, until=now + int(seconds * 1_000_000))


def may_call(found: BucketHealth, now: int) -> bool:
    """Whether it is worth waking a worker for this bucket."""
    if found.throttled_until > now:
        return False
    return found.breaker is Breaker.CLOSED or found.probe_at <= now


def is_proven(ledger: Ledger, found: BucketHealth, watch: Observations, task: CustomerTask) -> bool:
    """Whether a failure is about the change and not about the provider.

    It is if the bucket settled something for somebody in this delivery, or since the task's changes failed first: a
    provider that answers everybody with "internal error" kills nothing, however long and however few they are.
    """
    watch.blamed = True
    if watch.proven:
        return True
    if found.well_at is None or found.breaker is not Breaker.CLOSED:
        return False
    tries = ledger.earlier_tries(task)
    return bool(tries) and found.well_at > tries[0].at


def is_its_own(
    ledger: Ledger, before: BucketHealth, watch: Observations, task: CustomerTask, call: Attempt, seen: Health
) -> bool:
    """Whether a bad answer about the connection (refused, throttled, no answer) is only about this one customer.

    It is if another customer was served while the call was made or after it, in this delivery; or in others, since this
    customer drew the same refusal for the first time, or since the latest try where the answer may well be a passing
    trouble. Being told to slow down must happen twice for that: while one is throttled, calls that are under way may
    still be served. And hardly any other customer may have been told the same lately: an account whose limit others use
    up serves some and throttles most, and makes no dead letters.
    """
    watch.blamed = True
    if not isinstance(seen, Throttled) and watch.served_since(call.at, but=task.target_id):
        return True
    tries = ledger.earlier_tries(task)
    alike = [one for one in tries if one.code == call.code]
    match seen:
        case Refused():
            since = alike[0].at if alike else None
        case Throttled():
            again = bool(alike) and tries[-1] == alike[-1]
            alone = again and watch.recent.mostly_serves(but=task.target_id)
            since = tries[-1].answered_at if alone else None
        case _:
            since = tries[-1].answered_at if tries else None
    if since is None:
        return False
    if watch.served_since(since + 1, but=task.target_id):
        return True
    found = health.health_of(ledger.database, before.name)
    if before.breaker is not Breaker.CLOSED or found.served_id == task.target_id:
        return False
    return found.well_at is not None and found.well_at > since


def conclude(ledger: Ledger, before: BucketHealth, watch: Observations) -> None:
    """Write down what a delivery has learnt about its bucket.

    A delivery in which a customer was served opens nothing: if there is trouble, the next one will serve nobody.
    """
    refused = next((one for one in watch.suspects.values() if isinstance(one, Refused)), None)
    unwell = next((one for one in watch.suspects.values() if isinstance(one, Unwell)), None)
    if watch.unfit is not None:
        _open(ledger, before, watch, Breaker.REFUSED, watch.unfit.reason)
    elif watch.throttled is not None:
        _open(ledger, before, watch, Breaker.DOWN, "the provider asked us to slow down")
    elif refused is not None and not watch.proven:
        _open(ledger, before, watch, Breaker.REFUSED, refused.reason)
    elif unwell is not None and not watch.proven and watch.failures and _too_many(ledger, before, watch):
        _open(ledger, before, watch, Breaker.DOWN, unwell.reason)
    elif watch.answered:
        _close(ledger, before, watch)


def note_error(ledger: Ledger, bucket: Bucket, error: Exception) -> str:
    """Stop a bucket for a growing while after an error that no call explains; return the reason that is told.

    A message may name a person or hold a password, so only where the error came from is told; what is wrong with the
    configuration is told whole, because its messages are ours.
    """
    reason = str(error) if isinstance(error, ConfigurationError) else f"the worker failed: {place_of(error)}"
    found, now = health.health_of(ledger.database, str(bucket)), ledger.now()
    if found.breaker is Breaker.CLOSED or found.probe_at <= now or found.reason != reason:
        probe_at = now + int(min(300.0, float(1 << min(found.trips, 10))) * 1_000_000)
        health.open_breaker(ledger.database, found, Trouble(Breaker.DOWN, reason, probe_at), now=now)
    return reason


def throttle(ledger: Ledger, bucket: Bucket, seconds: float) -> None:
    """Let no process make a call in a bucket for so many seconds: its provider asked for it."""
    health.throttle(ledger.database, str(bucket), until=ledger.now() + int(seconds * 1_000_000))


def _too_many(ledger: Ledger, before: BucketHealth, watch: Observations) -> bool:
    if before.breaker is not Breaker.CLOSED or watch.failures >= FAILURES_TO_OPEN:
        return True
    return health.count_failures(ledger.database, before.name, watch.failures) >= FAILURES_TO_OPEN


def _open(ledger: Ledger, before: BucketHealth, watch: Observations, breaker: Breaker, reason: str) -> None:
    now = ledger.now()
    suspects = tuple(target for target in watch.suspects if target)
    # Refused again, and nobody but those who were: that is no news of the bucket. They have waits of their own, and
    # whoever comes next must not wait for minutes because of them.
    known = breaker is Breaker.REFUSED and bool(suspects) and set(suspects) <= set(before.suspects)
    enough = openings_to_confirm(replace(before, opened_at=before.opened_at or now))
    trips = min(before.trips, enough - 1) if known else before.trips
    probe_at = now + int(_seconds_to_probe(breaker, trips, enough) * _ODDS.uniform(0.5, 1.0) * 1_000_000)
    grows = not known or before.trips < enough
    health.open_breaker(ledger.database, before, Trouble(breaker, reason, probe_at, suspects, grows), now=now)


def _seconds_to_probe(breaker: Breaker, trips: int, enough: int) -> float:
    """Return the longest wait before the next probe: short until several customers have drawn the same refusal."""
    if breaker is Breaker.DOWN:
        first, longest, doubled = 1.0, 10.0, trips
    elif trips < enough:
        first, longest, doubled = 0.5, 4.0, trips
    else:
        first, longest, doubled = 15.0, 300.0, trips - enough
    return min(longest, first * float(1 << min(doubled, 10)))


def _close(ledger: Ledger, before: BucketHealth, watch: Observations) -> None:
    stale = before.well_at is None or ledger.now() - before.well_at > _WELL_AGAIN_AFTER
    if ((stale or watch.blamed) and watch.proven) or before.failures or before.breaker is not Breaker.CLOSED:
        health.close_breaker(ledger.database, before, served=watch.last_served)
