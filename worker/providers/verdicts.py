"""The answers in which all changes of a request share one fate, named by what happens next."""

from __future__ import annotations

from collections.abc import Iterable

from consent.ledger.queue.tasks import ClaimedChange
from consent.outcome import Health, Outcome, Refused, Rejected, Throttled, TryLater, Unwell, Well
from worker.providers.contract import Answer, Reply, Request


def all_of(changes: Iterable[ClaimedChange], outcome: Outcome) -> dict[int, Outcome]:
    """Return the same outcome for each of the changes."""
    return dict.fromkeys((change.id for change in changes), outcome)


def rejected(request: Request, code: str, reason: str) -> Answer:
    """Say that no change of the request will ever be taken."""
    return Answer(Well(), all_of(request.changes, Rejected(code, reason)), code=code)


def later(request: Request, reply: Reply, code: str, reason: str) -> Answer:
    """Say that it is about these changes and may pass: it counts against them."""
    outcome = TryLater(code, reason, counts=True, after=reply.retry_after)
    return Answer(Well(), all_of(request.changes, outcome), code=code)


def refused(request: Request, code: str, reason: str) -> Answer:
    """Say that a person must mend the connection; its changes wait."""
    return _waiting(request, Refused(reason), code, reason)


def slow_down(request: Request, code: str, reason: str, after: float | None) -> Answer:
    """Say that the connection is throttled, for `after` seconds where that is known; its changes wait."""
    return _waiting(request, Throttled(after), code, reason, after)


def unwell(request: Request, reply: Reply, code: str, reason: str) -> Answer:
    """Say that the provider cannot work at the moment, for anybody; its changes wait."""
    health = Throttled(reply.retry_after) if reply.retry_after else Unwell(reason)
    return _waiting(request, health, code, reason, reply.retry_after)


def witnessed(reply: Reply, *, shown: bool) -> Answer:
    """Say what a read about another customer tells: that the provider works if it showed what was asked for."""
    health = Well() if shown else Unwell("the provider does not show another customer either")
    return Answer(health, {}, code=str(reply.status))


def _waiting(request: Request, health: Health, code: str, reason: str, after: float | None = None) -> Answer:
    return Answer(health, all_of(request.changes, TryLater(code, reason, counts=False, after=after)), code=code)
