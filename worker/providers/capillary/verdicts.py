"""What one code makes of all changes of a request, and of the connection's health."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from consent.ledger.queue.tasks import ClaimedChange
from consent.outcome import Health, Outcome, Refused, Rejected, Throttled, TryLater, Unwell, Well
from worker.providers.capillary.codes import FEW, Meaning, Next
from worker.providers.contract import Answer, Reply, Request, pause

PAUSE = 60.0
"""Seconds to pause when the provider throttles and does not say for how long: its limits are per minute."""


def verdict(meaning: Meaning, request: Request, reply: Reply) -> Answer:
    """Return an answer in which all changes of the request share one fate."""
    return Answer(_health(meaning, reply), _outcomes(meaning, request.changes, reply), code=meaning.code)


def rejected(meaning: Meaning, changes: Sequence[ClaimedChange]) -> dict[int, Outcome]:
    """Return a rejection for each of the changes."""
    return {change.id: Rejected(meaning.code, meaning.reason) for change in changes}


def _health(meaning: Meaning, reply: Reply) -> Health:
    match meaning.next:
        case Next.REFUSED:
            return Refused(meaning.reason)
        case Next.SLOW_DOWN:
            return Throttled(pause(reply.retry_after, PAUSE))
        case Next.UNWELL:
            return Throttled(reply.retry_after) if reply.retry_after else Unwell(meaning.reason)
        case Next.DEAD | Next.ALONE | Next.FEW_TRIES | Next.LATER | Next.ROWS:
            return Well()
        case _:
            assert_never(meaning.next)


def _outcomes(meaning: Meaning, changes: Sequence[ClaimedChange], reply: Reply) -> dict[int, Outcome]:
    match meaning.next:
        case Next.DEAD | Next.ALONE:
            return rejected(meaning, changes)
        case Next.FEW_TRIES:
            tired = [change for change in changes if change.attempts + 1 >= FEW]
            return _later(meaning, changes, reply) | rejected(meaning, tired)
        case Next.REFUSED | Next.SLOW_DOWN | Next.UNWELL | Next.LATER | Next.ROWS:
            return _later(meaning, changes, reply)
        case _:
            assert_never(meaning.next)


def _later(meaning: Meaning, changes: Sequence[ClaimedChange], reply: Reply) -> dict[int, Outcome]:
    counts = meaning.next not in (Next.REFUSED, Next.SLOW_DOWN, Next.UNWELL)
    after = pause(reply.retry_after, PAUSE) if meaning.next is Next.SLOW_DOWN else reply.retry_after
    later = TryLater(meaning.code, meaning.reason, counts=counts, after=after)
    return dict.fromkeys((change.id for change in changes), later)
