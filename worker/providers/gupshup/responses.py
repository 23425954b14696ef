"""Reading Gupshup's replies: what becomes of each change, and the subscription that a reply shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from consent.change import Action
from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import WITNESS, ClaimedChange
from consent.outcome import Applied, Healthy, Outcome, PermanentFailure, Retry, Unchanged
from worker.providers.batching import halves
from worker.providers.classify import (
    Classification,
    ReplyKind,
    answer_for,
    json_object,
    permanent_failure,
    witnessed,
)
from worker.providers.contract import Answer, Reply, Request
from worker.providers.gupshup.codes import classify
from worker.providers.gupshup.requests import LOOK, VERIFY, WRITE, first_call, look, without_field, write
from worker.providers.gupshup.row import ACTIVE, FIELD, MODES, NONE, fits, read_slot, slot_text

MODE_IGNORED = PermanentFailure("mode_ignored", "Gupshup took the request and left this mode as it was")
NOT_FOR_VERSION = PermanentFailure("mode_not_for_version", "this mode does not go with the version of the subscription")
NOT_SHOWN = ("unconfirmed", "Gupshup took the change, but the subscription does not show it")


def read(request: Request, reply: Reply, _: ConnectionSettings) -> Answer:
    """Return what a reply means for each change of its request."""
    body = json_object(reply.text)
    found, shown = classify(reply.status, body), subscription_of(body)
    if request.purpose == WITNESS:
        return witnessed(reply, shown=found.kind is ReplyKind.INSPECT and shown is not None)
    if found.kind is not ReplyKind.INSPECT:
        return _invalid(found, request) if found.kind is ReplyKind.INVALID else answer_for(found, request, reply)
    if request.purpose == WRITE:
        return _written(request, reply, shown)
    if shown is None or (request.purpose == LOOK and shown.modes is None):
        return answer_for(replace(found, code="unreadable"), request, reply)
    if request.purpose == LOOK:
        return _merged(request, reply, shown)
    return _compare(request, reply, shown, request.changes)


def _merged(request: Request, reply: Reply, shown: Subscription) -> Answer:
    merged = merge(shown, request.changes)
    named = any(read_slot(change.slot).kind == MODES for change in merged.carried)
    put = write(request.tasks[0], merged.carried, merged.modes if named else None)
    return Answer(Healthy(), merged.outcomes, (put,) if merged.carried else (), str(reply.status))


def _written(request: Request, reply: Reply, shown: Subscription | None) -> Answer:
    """Compare what was asked with the subscription that the reply shows; look for what it does not show."""
    hidden = [one for one in request.changes if _can_show(one) and (shown is None or shown.shows(one) is None)]
    seen = [change for change in request.changes if change not in hidden]
    answer = _compare(request, reply, shown, seen)
    further = (look(request.tasks[0], hidden, VERIFY),) if hidden else ()
    return replace(answer, further=further)


def _compare(request: Request, reply: Reply, shown: Subscription | None, changes: Sequence[ClaimedChange]) -> Answer:
    outcomes: dict[int, Outcome] = {}
    for change in changes:
        if not _can_show(change) or (shown is not None and shown.shows(change)):
            outcomes[change.id] = Applied()
        elif request.purpose == WRITE and read_slot(change.slot).kind == MODES:
            outcomes[change.id] = MODE_IGNORED
        else:
            outcomes[change.id] = Retry(*NOT_SHOWN, counts=True, after=reply.retry_after, witnessed=shown is not None)
    applied = all(isinstance(outcome, Applied) for outcome in outcomes.values())
    return Answer(Healthy(), outcomes, code=str(reply.status) if applied else NOT_SHOWN[0])


def _can_show(change: ClaimedChange) -> bool:
    """Say whether a subscription can show a change; that a URL shall be checked is no part of it."""
    return change.slot != slot_text(FIELD, "do_check")


def _invalid(found: Classification, request: Request) -> Answer:
    """Reject the field that the message names and write the rest; where it names none, try each half by itself."""
    named = [change for change in request.changes if change.slot == slot_text(FIELD, found.field)]
    if named or len(request.changes) == 1:
        rest = without_field(request, found.field)
        outcomes = permanent_failure(found, named or request.changes)
        return Answer(Healthy(), outcomes, (rest,) if named and rest.changes else (), found.code)
    parts = halves(request.changes)
    return Answer(Healthy(), {}, tuple(first_call(request.tasks[0], part) for part in parts), found.code)


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a reply shows; None for what it does not show."""

    active: bool | None
    modes: tuple[str, ...] | None
    tag: str | None
    url: str | None
    version: str | None

    def shows(self, change: ClaimedChange) -> bool | None:
        """Say whether it is as a change wants it; None if that does not show."""
        kind, member = read_slot(change.slot)
        wanted = change.action is Action.OPTIN
        if kind == ACTIVE:
            return None if self.active is None else self.active is wanted
        if kind == MODES:
            return None if self.modes is None else (member in self.modes) is wanted
        if member == "do_check":
            return None
        shown: str | None = getattr(self, member)
        return None if shown is None else shown == str(change.details[member])


@dataclass(slots=True)
class Merged:
    """All modes that a subscription shall have, the changes to write, and what became of the others."""

    modes: list[str]
    carried: list[ClaimedChange] = field(default_factory=list)
    outcomes: dict[int, Outcome] = field(default_factory=dict)


def subscription_of(body: dict[str, Any] | None) -> Subscription | None:
    """Return the subscription that a reply shows, or None if it shows none.

        {"status": "success", "subscription": {"active": true, "appId": "…", "id": "32595", "mode": 1025,
         "modes": ["SENT", "ENQUEUED"], "tag": "V33i4", "url": "https://…", "version": 2, …}}

    (partner-docs.gupshup.io/reference/put_partner-app-appid-subscription-subscriptionid.) The number `mode` says the
    same as `modes`; how it is computed is not documented, so it is not read.
    """
    match body:
        case {"subscription": {**shown}} if shown:
            return Subscription(
                active=_if(bool, shown.get("active")),
                modes=_modes(shown.get("modes")),
                tag=_if(str, shown.get("tag")),
                url=_if(str, shown.get("url")),
                version=_version(shown.get("version")),
            )
        case _:
            return None


def merge(there: Subscription, changes: Sequence[ClaimedChange]) -> Merged:
    """Return what has to be written: only what is not so already."""
    merged = Merged([mode for mode in there.modes or () if mode != NONE])
    version = next((str(one.details["version"]) for one in changes if one.slot == _VERSION), there.version)
    for change in changes:
        kind, member = read_slot(change.slot)
        if there.shows(change):
            merged.outcomes[change.id] = Unchanged()
        elif kind != MODES:
            merged.carried.append(change)
        elif change.action is Action.OPTOUT:
            merged.modes.remove(member)
            merged.carried.append(change)
        elif version is not None and not fits(member, int(version)):
            merged.outcomes[change.id] = NOT_FOR_VERSION
        else:
            merged.modes.append(member)
            merged.carried.append(change)
    return merged


_VERSION = "field:version"


def _if(kind: type, value: Any) -> Any:
    return value if type(value) is kind else None


def _modes(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(dict.fromkeys(mode.strip().upper() for mode in value if isinstance(mode, str)))


def _version(value: Any) -> str | None:
    text = str(value) if type(value) is int or isinstance(value, str) else ""
    return text if len(text) == 1 and text.isascii() and text.isdigit() else None
