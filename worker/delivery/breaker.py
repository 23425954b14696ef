"""The circuit breaker of a bucket: it stops the calls where a provider is down or refuses us, and probes it.

Its state stands in the ledger, so every process stops; half-open is one probe, won by one process. A delivery notes
what it sees of its bucket, and concludes from that at the end of each window. See Nygard, "Release It!", and
docs/resilience.md.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from consent.change import Bucket
from consent.errors import ConfigurationError, place_of
from consent.ledger.ledger import Ledger
from consent.ledger.queue.breakers import Breaker, BucketHealth, Trip
from consent.outcome import Health, Healthy, Throttled, Unauthorized, Unavailable

FAILURES_TO_OPEN = 5
"""Failed calls in a row, with no customer served between them, that open the breaker."""

REFUSALS_TO_STOP = 3
"""Unauthorized calls in a row, with no customer served between them, after which a delivery makes no further call."""

FEW_THROTTLED, SERVED_FOR_EACH_THROTTLED = 10, 3
"""So many customers may draw a 429 of their own. Where more do, so many must be served for each of them."""

PROBES_TO_CONFIRM = 3
"""Openings in a row after which a refusal is the connection's: each was another customer's, if there is any."""

PROBES_TO_DOUBT = 6
"""The same where a customer was served less than a minute before: many refused customers may stand in the queue."""

_JUST_NOW = 60_000_000

_WELL_AGAIN_AFTER = 1_000_000
_ODDS = random.SystemRandom()


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
    that an answer may be the fault of its change: then it matters when the bucket last did well. `failed` says that the
    delivery itself has failed.

    Calls note what they see in the event loop, while the delivery judges of it in threads: `snapshot` is for those who
    need it whole.
    """

    blamed: bool = False
    failed: bool = False
    answered: bool = False
    failures: int = 0
    refusals: int = 0
    unfit: Unauthorized | None = None
    throttled: Throttled | None = None
    suspects: dict[int, Unauthorized | Unavailable] = field(default_factory=dict)
    recent: RecentCustomers = field(default_factory=RecentCustomers)
    _served: dict[int, int] = field(default_factory=dict)
    _read_at: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def snapshot(self) -> Observations:
        """Return what has been seen up to now, which changes no more."""
        with self._lock:
            return replace(self, suspects=dict(self.suspects), _served=dict(self._served))

    def note(self, seen: Health, targets: Iterable[int] = (), *, served: Iterable[int] = (), at: int = 0) -> None:
        """Take in one answer to a call that began `at` (microseconds); of some, who are `served`, it settled a change.

        A call says how the provider was when it began: one that is slow may still be served while all others fail.
        """
        with self._lock:
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
        with self._lock:
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
        with self._lock:
            self.answered, self._read_at, self.refusals = True, max(at, self._read_at or 0), 0
            self.suspects.clear()

    def excuse(self, target: int) -> None:
        """Take in that the bad answers about a target are its own, and say nothing of the bucket."""
        with self._lock:
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
        with self._lock:
            return max(self._served.items(), key=lambda one: one[1], default=None)

    def served_since(self, at: int, *, but: int) -> bool:
        """Whether another target was served by a call that began at that moment or later, or a read was answered."""
        with self._lock:
            if self._read_at is not None and self._read_at >= at:
                return True
            return any(target != but and moment >= at for target, moment in self._served.items())

    @property
    def stop(self) -> bool:
        """Whether to make no further call in this delivery."""
        stopped = self.failed or self.unfit is not None or self.throttled is not None
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


def openings_to_confirm(found: BucketHealth) -> int:
    """Return after how many openings in a row a refusal is the connection's, and not that of single customers."""
    just_now = found.healthy_at is not None and (found.opened_at or 0) - found.healthy_at < _JUST_NOW
    return PROBES_TO_DOUBT if just_now else PROBES_TO_CONFIRM


def win_probe(ledger: Ledger, found: BucketHealth, seconds: float) -> bool:
    """Win the one probe, or not; the process that wins has so many seconds for it before another may try."""
    now = ledger.now()
    return ledger.breakers.take_probe(found.name, now=now, until=now + int(seconds * 1_000_000))


def may_call(found: BucketHealth, now: int) -> bool:
    """Whether it is worth waking a worker for this bucket."""
    if found.throttled_until > now:
        return False
    return not found.is_open or found.probe_at <= now


def conclude(ledger: Ledger, before: BucketHealth, observations: Observations) -> None:
    """Write down what a delivery has learnt about its bucket, up to now: its calls go on.

    A delivery in which a customer was served opens nothing: if there is trouble, the next one will serve no customer.
    """
    observations = observations.snapshot()
    refused = next((one for one in observations.suspects.values() if isinstance(one, Unauthorized)), None)
    unavailable = next((one for one in observations.suspects.values() if isinstance(one, Unavailable)), None)
    if observations.unfit is not None:
        _open(ledger, before, observations, Breaker.REFUSED, observations.unfit.reason)
    elif observations.throttled is not None:
        _open(ledger, before, observations, Breaker.DOWN, "the provider asked us to slow down")
    elif refused is not None and not observations.proven:
        _open(ledger, before, observations, Breaker.REFUSED, refused.reason)
    elif (
        unavailable is not None
        and not observations.proven
        and observations.failures
        and _too_many(ledger, before, observations)
    ):
        _open(ledger, before, observations, Breaker.DOWN, unavailable.reason)
    elif observations.answered:
        _close(ledger, before, observations)


def note_error(ledger: Ledger, bucket: Bucket, error: Exception) -> str:
    """Stop a bucket for a growing while after an error that no call explains; return the reason that is shown.

    A message may name a person or hold a password, so only where the error came from is shown; what is wrong with the
    configuration is shown whole, because its messages are ours.
    """
    reason = str(error) if isinstance(error, ConfigurationError) else f"the worker failed: {place_of(error)}"
    found, now = ledger.breakers.health_of(str(bucket)), ledger.now()
    if not found.is_open or found.probe_at <= now or found.reason != reason:
        probe_at = now + int(min(300.0, float(1 << min(found.trips, 10))) * 1_000_000)
        ledger.breakers.open_breaker(found, Trip(Breaker.DOWN, reason, probe_at), now=now)
    return reason


def _too_many(ledger: Ledger, before: BucketHealth, observations: Observations) -> bool:
    if before.is_open or observations.failures >= FAILURES_TO_OPEN:
        return True
    return ledger.breakers.count_failures(before.name, observations.failures) >= FAILURES_TO_OPEN


def _open(ledger: Ledger, before: BucketHealth, observations: Observations, breaker: Breaker, reason: str) -> None:
    now = ledger.now()
    suspects = tuple(target for target in observations.suspects if target)
    # Refused again, and only those who were refused before: that is no news of the bucket. They have waits of their
    # own, and the next customer must not wait for minutes because of them.
    known = breaker is Breaker.REFUSED and bool(suspects) and set(suspects) <= set(before.suspects)
    enough = openings_to_confirm(replace(before, opened_at=before.opened_at or now))
    trips = min(before.trips, enough - 1) if known else before.trips
    probe_at = now + int(_seconds_to_probe(breaker, trips, enough) * _ODDS.uniform(0.5, 1.0) * 1_000_000)
    grows = not known or before.trips < enough
    ledger.breakers.open_breaker(before, Trip(breaker, reason, probe_at, suspects, grows), now=now)


def _seconds_to_probe(breaker: Breaker, trips: int, enough: int) -> float:
    """Return the longest wait before the next probe: short until several customers have drawn the same refusal."""
    if breaker is Breaker.DOWN:
        first, longest, doubled = 1.0, 10.0, trips
    elif trips < enough:
        first, longest, doubled = 0.5, 4.0, trips
    else:
        first, longest, doubled = 15.0, 300.0, trips - enough
    return min(longest, first * float(1 << min(doubled, 10)))


def _close(ledger: Ledger, before: BucketHealth, observations: Observations) -> None:
    stale = before.healthy_at is None or ledger.now() - before.healthy_at > _WELL_AGAIN_AFTER
    if ((stale or observations.blamed) and observations.proven) or before.failures or before.is_open:
        ledger.breakers.close_breaker(before, served=observations.last_served)
