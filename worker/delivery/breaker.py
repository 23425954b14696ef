"""The circuit breaker of a bucket: it stops the calls where a provider is down or refuses us, and probes it.

Its state stands in the ledger, so every process stops; half-open is one probe, won by one process. See Nygard, "Release
It!", and docs/resilience.md.
"""

from __future__ import annotations

import random
from dataclasses import replace

from consent.change import Bucket
from consent.errors import ConfigurationError, place_of
from consent.ledger.ledger import Ledger
from consent.ledger.queue.breakers import Breaker, BucketHealth, Trip
from consent.ledger.queue.tasks import Attempt, CustomerTask
from consent.outcome import Health, Throttled, Unauthorized, Unavailable
from worker.delivery.observations import FAILURES_TO_OPEN, Observations

PROBES_TO_CONFIRM = 3
"""Openings in a row after which a refusal is the connection's: each was another customer's, if there is any."""

PROBES_TO_DOUBT = 6
"""The same where a customer was served less than a minute before: many refused customers may stand in the queue."""

_JUST_NOW = 60_000_000

_WELL_AGAIN_AFTER = 1_000_000
_ODDS = random.SystemRandom()


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


def is_proven(
    ledger: Ledger, before: BucketHealth, observations: Observations, task: CustomerTask, called_at: int
) -> bool:
    """Whether a failure is about the change and not about the provider.

    It is if another customer was served, or a harmless read was answered, by a call that began after the answer to the
    change's latest try before this one; where this is the first, after its call began (`called_at`; 0 without a call).
    So each try needs a witness of its own: of an outage, however long and however few customers are left, only a call
    that was under way when it began can count.
    """
    observations.blamed = True
    if not called_at:
        return observations.proven
    tries = ledger.queries.earlier_tries(task)
    since = max(one.answered_at for one in tries) + 1 if tries else called_at
    return observations.served_since(since, but=task.target_id) or _served_elsewhere(ledger, before, task, since)


def is_its_own(
    ledger: Ledger, before: BucketHealth, observations: Observations, task: CustomerTask, call: Attempt, seen: Health
) -> bool:
    """Whether a bad answer about the connection (refused, throttled, no answer) is only about this one customer.

    It is if another customer was served by a call that began while this one was made or after it, in this delivery; or
    in others, since the answer to the latest try. A 429 must come twice for that, and hardly any other customer may
    have drawn one lately: an account whose limit others use up, which serves some, makes no dead letters.
    """
    observations.blamed = True
    if not isinstance(seen, Throttled) and observations.served_since(call.at, but=task.target_id):
        return True
    tries = ledger.queries.earlier_tries(task)
    alike = [one for one in tries if one.code == call.code]
    match seen:
        case Unauthorized():
            comparable = bool(alike)
        case Throttled():
            again = bool(alike) and tries[-1] == alike[-1]
            comparable = again and observations.recent.mostly_serves(but=task.target_id)
        case _:
            comparable = bool(tries)
    if not comparable:
        return False
    since = max(one.answered_at for one in tries) + 1
    return observations.served_since(since, but=task.target_id) or _served_elsewhere(ledger, before, task, since)


def conclude(ledger: Ledger, before: BucketHealth, observations: Observations) -> None:
    """Write down what a delivery has learnt about its bucket.

    A delivery in which a customer was served opens nothing: if there is trouble, the next one will serve no customer.
    """
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


def _served_elsewhere(ledger: Ledger, before: BucketHealth, task: CustomerTask, since: int) -> bool:
    """Whether any process was served for another customer by a call that began at that moment or later."""
    if before.is_open:
        return False
    found = ledger.breakers.health_of(before.name)
    return found.served_id != task.target_id and found.healthy_at is not None and found.healthy_at >= since


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
