"""Whose fault an answer is: the change's or the customer's if others were served meanwhile, else the provider's.

The rule stands in docs/resilience.md. A witness is another customer who was served, or a harmless read.
"""

from __future__ import annotations

from consent.ledger.ledger import Ledger
from consent.ledger.queue.breakers import BucketHealth
from consent.ledger.queue.tasks import Attempt, CustomerTask
from consent.outcome import Health, Throttled, Unauthorized
from worker.delivery.breaker import Observations


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


def _served_elsewhere(ledger: Ledger, before: BucketHealth, task: CustomerTask, since: int) -> bool:
    """Whether any process was served for another customer by a call that began at that moment or later."""
    if before.is_open:
        return False
    found = ledger.breakers.health_of(before.name)
    return found.served_id != task.target_id and found.healthy_at is not None and found.healthy_at >= since
