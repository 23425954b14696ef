"""Reading Infobip's replies about a subscription: what becomes of each change, what is there, what is to be written.

Replies about people on the blocklist are read in `blocklist_responses`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from consent.change import Action
from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import WITNESS, ClaimedChange
from consent.outcome import Applied, Healthy, Outcome, PermanentFailure, Retry, Unchanged
from worker.providers.batching import halves
from worker.providers.classify import Classification, ReplyKind, all_of, witnessed
from worker.providers.contract import Answer, Reply, Request
from worker.providers.infobip.blocklist_responses import entries_of, read_blocklist
from worker.providers.infobip.codes import Body, Violation, answer, classify, parse_body, violation_of
from worker.providers.infobip.requests import (
    LOOK,
    SUBSCRIPTION_PURPOSES,
    VERIFY,
    WRITE,
    is_offered,
    is_subscription,
    look,
)
from worker.providers.infobip.row import FIELD, SETS, criterion, criterion_key, read_slot, slot_text

NO_SUBSCRIPTION = PermanentFailure("no_such_subscription", "Infobip has no such subscription for this channel")
NO_PROFILE = PermanentFailure("no_such_profile", "Infobip has no notification profile with this profile_id")
NOT_SHOWN = ("unconfirmed", "Infobip took the change, but its subscription does not show it")
EVENT_IGNORED = PermanentFailure(
    "event_ignored", "Infobip ignored this event: it is not in the published table of the channel's events"
)

_MEMBER = re.compile(rf"({'|'.join(SETS)})(?:\[(\d{{1,6}})\])?(?:\..*)?", re.ASCII)
_FIELDS = {"name": "name", "profile": "profile_id", "profileId": "profile_id", "profile.profileId": "profile_id"}
_PROFILE = slot_text(FIELD, "profile_id")

MOST_MEMBERS = 255
"""Members of one set ("Update subscription": events, criteria, resources and users hold 0..255 items)."""

FILTERS = ("criteria", "resources", "users")
"""The sets that narrow what a subscription matches: it matches everything where they are empty (our inference)."""

TOO_MANY = PermanentFailure(
    "too_many_members", f"the subscription would hold more than {MOST_MEMBERS} members of this kind"
)
LAST_FILTER = PermanentFailure(
    "last_filter",
    "without its last criterion, resource or user the subscription would match everybody; "
    "set the connection's ALLOW_EMPTY_FILTERS to true if that is meant",
)


def read(request: Request, reply: Reply, connection: ConnectionSettings) -> Answer:
    """Return what a reply means for each change of its request, by what the call was for."""
    if request.purpose == WITNESS:
        return witnessed(reply, shown=_shows(request, reply))
    if request.purpose in SUBSCRIPTION_PURPOSES:
        return _read_subscription(request, reply, connection)
    return read_blocklist(request, reply, connection)


def _shows(request: Request, reply: Reply) -> bool:
    body, task = parse_body(reply.text), request.tasks[0]
    if classify(reply.status, body).kind is not ReplyKind.INSPECT:
        return False
    return (document_of(body.json) if is_subscription(task) else entries_of(body.json, task)) is not None


def _read_subscription(request: Request, reply: Reply, connection: ConnectionSettings) -> Answer:
    body = parse_body(reply.text)
    found = classify(reply.status, body)
    if found.kind is ReplyKind.NOT_FOUND:
        return _not_found(request)
    if found.kind is ReplyKind.INVALID and request.purpose == WRITE:
        return _invalid(found, request, reply, body)
    if found.kind is not ReplyKind.INSPECT:
        return answer(found, request, reply)
    if request.purpose == WRITE:
        return _written(request, reply, body, connection)
    document = document_of(body.json)
    if document is None:
        return answer(replace(found, code="unreadable"), request, reply)
    return (_merged if request.purpose == LOOK else _verified)(request, reply, document, connection)


def _merged(request: Request, reply: Reply, document: Document, connection: ConnectionSettings) -> Answer:
    merged = merge(document, request.changes, allow_empty_filters=connection.allow_empty_filters)
    put = replace(request, method="PUT", changes=tuple(merged.carried), purpose=WRITE, json=merged.body)
    return Answer(Healthy(), merged.outcomes, (put,) if merged.carried else (), str(reply.status))


def _written(request: Request, reply: Reply, body: Body, connection: ConnectionSettings) -> Answer:
    """Read `{"subscriptionId": "…", "profile": {…}}`: it shows no events or criteria, nor reliably the profile."""
    channel = request.tasks[0].address["channel"]
    known = isinstance((body.json or {}).get("subscriptionId"), str)
    if known and not connection.verify and all(is_offered(channel, change) for change in request.changes):
        return Answer(Healthy(), all_of(request.changes, Applied()), code=str(reply.status))
    return Answer(Healthy(), {}, (replace(request, method="GET", purpose=VERIFY, json=None),), str(reply.status))


def _verified(request: Request, reply: Reply, document: Document, _: ConnectionSettings) -> Answer:
    channel = request.tasks[0].address["channel"]
    outcomes: dict[int, Outcome] = {}
    for change in request.changes:
        if holds(document, change):
            outcomes[change.id] = Applied()
        elif is_offered(channel, change):
            outcomes[change.id] = Retry(*NOT_SHOWN, counts=True, after=reply.retry_after, witnessed=True)
        else:
            outcomes[change.id] = EVENT_IGNORED
    shown = all(isinstance(outcome, Applied) for outcome in outcomes.values())
    return Answer(Healthy(), outcomes, code=str(reply.status) if shown else NOT_SHOWN[0])


def _invalid(found: Classification, request: Request, reply: Reply, body: Body) -> Answer:
    """Reject what the reply names, and look again for the rest; where it names nothing, try each half by itself."""
    named = blamed(request, body.violations)
    if not named and len(request.changes) == 1:
        return answer(found, request, reply)
    return _without(request, named, found.code)


def _not_found(request: Request) -> Answer:
    """Tell a subscription that is not there from a profile that is not: a look comes before each write."""
    named = [change for change in request.changes if change.slot == _PROFILE]
    if request.purpose != WRITE or not named:
        return Answer(Healthy(), all_of(request.changes, NO_SUBSCRIPTION), code=NO_SUBSCRIPTION.code)
    return _without(request, all_of(named, NO_PROFILE), NO_PROFILE.code)


def _without(request: Request, decided: Mapping[int, Outcome], code: str) -> Answer:
    rest = [change for change in request.changes if change.id not in decided]
    further = [look(request.tasks[0], some) for some in ([rest] if decided else halves(rest)) if some]
    return Answer(Healthy(), decided, tuple(further), code)


Document = Mapping[str, Any]


def document_of(body: dict[str, Any] | None) -> Document | None:
    """Return the subscription that a body is, or None if it is none.

        {"subscriptionId": "ABC-123-DEF", "name": "Default group", "profile": {"profileId": "NOTIF-32395", …},
         "events": ["DELIVERY", {"event": "SEEN", "format": "…"}], "criteria": [{"applicationId": "production"}],
         "resources": ["1234"], "users": ["user1"]}

    ("Get subscription", infobip.com/docs/api/platform/subscriptions-api.) The sets may be absent.
    """
    match body:
        case {"subscriptionId": str(), "profile": {"profileId": str()}, **rest}:
            return body if all(_is_set(rest.get(one)) for one in SETS) else None
        case _:
            return None


def listed(document: Document, kind: str) -> list[Any]:
    """Return the members of a set as they are."""
    return list(document.get(kind) or [])


def key_of(kind: str, item: Any) -> str:
    """Return the name by which a member is known, whichever form it has there."""
    if kind == "criteria":
        return criterion_key(item) if isinstance(item, dict) else ""
    if isinstance(item, dict):
        item = item.get("event")
    return str(item).upper() if kind == "events" else str(item)


def item_of(kind: str, key: str) -> Any:
    """Return a member in the form in which it is added."""
    return criterion(key) if kind == "criteria" else key


def field_of(document: Document, name: str) -> str | None:
    """Return what a field holds."""
    value = document.get("profile", {}).get("profileId") if name == "profile_id" else document.get(name)
    return value if isinstance(value, str) else None


def holds(document: Document, change: ClaimedChange) -> bool:
    """Say whether a subscription is as a change wants it."""
    kind, member = read_slot(change.slot)
    if kind == FIELD:
        return field_of(document, member) == change.details.get(member)
    there = member in {key_of(kind, item) for item in listed(document, kind)}
    return there is (change.action is Action.OPTIN)


def _is_set(value: Any) -> bool:
    return value is None or isinstance(value, list)


@dataclass(slots=True)
class Merged:
    """The body of a PUT, the changes that it carries, and what became of the others."""

    body: dict[str, Any]
    carried: list[ClaimedChange] = field(default_factory=list)
    outcomes: dict[int, Outcome] = field(default_factory=dict)


def merge(document: Document, changes: Sequence[ClaimedChange], *, allow_empty_filters: bool) -> Merged:
    """Return the whole subscription with the changes in it, as a PUT takes it.

    Whether a PUT clears or keeps what it leaves out is not documented, so nothing is left out; of the profile it takes
    only the id.
    """
    merged = Merged({name: value for name, value in document.items() if name != "subscriptionId" and value is not None})
    merged.body["profile"] = {"profileId": document["profile"]["profileId"]}
    merged.body.setdefault("events", [])
    merged.outcomes.update({change.id: Unchanged() for change in changes if holds(document, change)})
    fresh = [change for change in changes if change.id not in merged.outcomes]
    for kind in SETS:
        mine = [change for change in fresh if read_slot(change.slot).kind == kind]
        if mine:
            _merge_set(merged, kind, mine, keep_one=kind in FILTERS and not allow_empty_filters)
    for change in fresh:
        if read_slot(change.slot).kind == FIELD:
            _set_field(merged, change)
    return merged


def _merge_set(merged: Merged, kind: str, changes: Sequence[ClaimedChange], *, keep_one: bool) -> None:
    out = {read_slot(change.slot).member: change for change in changes if change.action is Action.OPTOUT}
    into = [change for change in changes if change.action is Action.OPTIN]
    before = listed(merged.body, kind)
    if keep_one and not into and all(key_of(kind, item) in out for item in before):
        merged.outcomes[out.popitem()[1].id] = LAST_FILTER
    kept = [item for item in before if key_of(kind, item) not in out]
    room = max(0, MOST_MEMBERS - len(kept))
    merged.outcomes.update({change.id: TOO_MANY for change in into[room:]})
    added = [item_of(kind, read_slot(change.slot).member) for change in into[:room]]
    if out or added:
        merged.body[kind] = [*kept, *added]
        merged.carried += [*out.values(), *into[:room]]


def _set_field(merged: Merged, change: ClaimedChange) -> None:
    name = read_slot(change.slot).member
    value = change.details[name]
    if name == "profile_id":
        merged.body["profile"] = {"profileId": value}
    else:
        merged.body[name] = value
    merged.carried.append(change)


def blamed(request: Request, violations: Iterable[Violation]) -> dict[int, Outcome]:
    """Return a rejection for each change that a violation surely names; empty if none does."""
    found: dict[int, Outcome] = {}
    for violation in violations:
        slot, kind = _slot(request, violation.path)
        for change in _owners(request, slot, kind):
            found[change.id] = violation_of(kind, violation.message)
    return found


def _slot(request: Request, path: str) -> tuple[str, str]:
    """Return the slot that a path leads to ("" for a set as a whole), and our name for that part of the body."""
    if path in _FIELDS:
        return slot_text(FIELD, _FIELDS[path]), _FIELDS[path]
    match = _MEMBER.fullmatch(path)
    if match is None:
        return "", ""
    kind, members = match[1], listed(request.json, match[1])
    if match[2] is None or int(match[2]) >= len(members):
        return "", kind
    return slot_text(kind, key_of(kind, members[int(match[2])])), kind


def _owners(request: Request, slot: str, kind: str) -> Iterator[ClaimedChange]:
    """Yield the changes behind a slot; a set as a whole is surely meant for one change only if it is the only one."""
    if slot:
        yield from (one for one in request.changes if one.slot == slot and _puts_in(one))
        return
    mine = [one for one in request.changes if kind and one.slot.startswith(f"{kind}:")]
    if len(mine) == 1:
        yield from mine


def _puts_in(change: ClaimedChange) -> bool:
    return change.action is Action.OPTIN or change.slot.startswith(f"{FIELD}:")
