"""From the reply to a call about a subscription to what becomes of each change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, assert_never

from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import WITNESS, ClaimedChange
from consent.outcome import Applied, Outcome, Rejected, TryLater, Well
from worker.providers import verdicts
from worker.providers.contract import Answer, Reply, Request, pause
from worker.providers.gupshup.calls import LOOK, VERIFY, WRITE, first_call, look, without_field, write
from worker.providers.gupshup.messages import Meaning, Next, judge
from worker.providers.gupshup.slots import FIELD, MODES, read_slot, slot_text
from worker.providers.gupshup.subscription import Subscription, merge, subscription_of
from worker.providers.json_body import json_object

PAUSE = 60.0
"""Seconds to pause when Gupshup throttles: its limits per minute cool down in a minute (page on rate limits)."""

MODE_IGNORED = Rejected("mode_ignored", "Gupshup took the request and left this mode as it was")
NOT_SHOWN = ("unconfirmed", "Gupshup took the change, but the subscription does not show it")


def read(request: Request, reply: Reply, _: ConnectionSettings) -> Answer:
    """Say what a reply means for each change of its request."""
    body = json_object(reply.text)
    meaning = judge(reply.status, body)
    if request.purpose == WITNESS:
        return verdicts.witnessed(reply, shown=meaning.next is Next.LOOK and subscription_of(body) is not None)
    if meaning.next is not Next.LOOK:
        return _failed(meaning, request, reply)
    return _succeeded(meaning, request, reply, body)


def _succeeded(meaning: Meaning, request: Request, reply: Reply, body: dict[str, Any] | None) -> Answer:
    there = subscription_of(body)
    if request.purpose == WRITE:
        return _written(request, reply, there)
    if there is None or (request.purpose == LOOK and there.modes is None):
        return verdicts.later(request, reply, "unreadable", meaning.reason)
    if request.purpose == VERIFY:
        return _told(request, reply, there, request.changes)
    return _merged(request, reply, there)


def _merged(request: Request, reply: Reply, there: Subscription) -> Answer:
    merged = merge(there, request.changes)
    named = any(read_slot(change.slot).kind == MODES for change in merged.carried)
    put = write(request.tasks[0], merged.carried, merged.modes if named else None)
    return Answer(Well(), merged.outcomes, (put,) if merged.carried else (), str(reply.status))


def _written(request: Request, reply: Reply, there: Subscription | None) -> Answer:
    """Compare what was asked with the subscription that the reply shows; look for what it does not show."""
    hidden = [one for one in request.changes if _can_show(one) and (there is None or there.shows(one) is None)]
    seen = [change for change in request.changes if change not in hidden]
    answer = _told(request, reply, there, seen)
    further = (look(request.tasks[0], hidden, VERIFY),) if hidden else ()
    return replace(answer, further=further)


def _told(request: Request, reply: Reply, there: Subscription | None, changes: Sequence[ClaimedChange]) -> Answer:
    outcomes: dict[int, Outcome] = {}
    for change in changes:
        if not _can_show(change) or (there is not None and there.shows(change)):
            outcomes[change.id] = Applied()
        elif request.purpose == WRITE and read_slot(change.slot).kind == MODES:
            outcomes[change.id] = MODE_IGNORED
        else:
            outcomes[change.id] = TryLater(*NOT_SHOWN, counts=True, after=reply.retry_after)
    shown = all(isinstance(outcome, Applied) for outcome in outcomes.values())
    return Answer(Well(), outcomes, code=str(reply.status) if shown else NOT_SHOWN[0])


def _can_show(change: ClaimedChange) -> bool:
    """Say whether a subscription can show a change; that a URL shall be checked is no part of it."""
    return change.slot != slot_text(FIELD, "do_check")


def _failed(meaning: Meaning, request: Request, reply: Reply) -> Answer:
    match meaning.next:
        case Next.DEAD:
            return verdicts.rejected(request, meaning.code, meaning.reason)
        case Next.URL | Next.TAG | Next.FAULTY:
            return _fault(meaning, request)
        case Next.LATER | Next.LOOK:
            return verdicts.later(request, reply, meaning.code, meaning.reason)
        case Next.REFUSED:
            return verdicts.refused(request, meaning.code, meaning.reason)
        case Next.SLOW_DOWN:
            return verdicts.slow_down(request, meaning.code, meaning.reason, pause(reply.retry_after, PAUSE))
        case Next.UNWELL:
            return verdicts.unwell(request, reply, meaning.code, meaning.reason)
        case _:
            assert_never(meaning.next)


def _fault(meaning: Meaning, request: Request) -> Answer:
    """Reject the field that the message names and write the rest; where it names none, each half by itself."""
    field = {Next.URL: "url", Next.TAG: "tag"}.get(meaning.next, "")
    named = [change for change in request.changes if change.slot == slot_text(FIELD, field)]
    if named or len(request.changes) == 1:
        rest = without_field(request, field)
        outcomes = verdicts.all_of(named or request.changes, Rejected(meaning.code, meaning.reason))
        return Answer(Well(), outcomes, (rest,) if named and rest.changes else (), meaning.code)
    middle = (len(request.changes) + 1) // 2
    parts = (request.changes[:middle], request.changes[middle:])
    return Answer(Well(), {}, tuple(first_call(request.tasks[0], part) for part in parts), meaning.code)
