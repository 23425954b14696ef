"""Reading Infobip's replies about people on the blocklist: what becomes of each change, and which entries to remove."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from consent.change import Action
from consent.connection import ConnectionSettings
from consent.identifiers.identity import fold_destination
from consent.ledger.merge import Version, rank
from consent.ledger.queue.tasks import ClaimedChange, CustomerTask
from consent.outcome import Applied, Healthy, Outcome, PermanentFailure, Retry, Unchanged
from consent.times import UnusableTime, read_time, to_micros
from worker.providers.batching import halves
from worker.providers.classify import Classification, ReplyKind, all_of
from worker.providers.contract import Answer, Reply, Request
from worker.providers.infobip.blocklist_requests import (
    LOOKUP,
    UNBLOCK,
    Item,
    Search,
    block,
    entry_of,
    lookup,
    properties_of,
    write,
)
from worker.providers.infobip.blocklist_slots import INEXPRESSIBLE, Place, blocked_text, read_place
from worker.providers.infobip.codes import Body, answer, classify, parse_body, violation_of
from worker.providers.infobip.row import REMOVE_CHANNELS

SHOWN_AFTER = 5.0
"""Seconds after which what was accepted should show: how long it takes is not documented."""

PATIENT_TRIES = 5
"""So many looks that show nothing are put down to slowness; from then on they count."""

UNCONFIRMED = ("unconfirmed", "Infobip accepted the change, but its blocklist does not show it yet")
_PLACE = re.compile(r"blocklist\[(\d{1,6})\](?:\.destinations\[(\d{1,6})\])?\.(to|channel|sender|accountKey)", re.ASCII)
_OUR_NAMES = {"to": "destination", "channel": "channel", "sender": "sender"}
_WRONG_ACCOUNT = "Infobip does not accept the sub-account: see the connection's ACCOUNT_KEY"

OURS = "CUSTOM"
"""The source of entries made by calls like ours; MO, URL_OPT_OUT and CAMPAIGN come from the persons themselves."""

NEWER = PermanentFailure("newer_optout", "an opt-out was recorded at Infobip after this opt-in was given, so it stays")
NOT_REMOVABLE = PermanentFailure(
    "not_removable", "the person is also blocked on a channel where Infobip cannot remove it: name the channel"
)

Entry = Mapping[str, Any]


def read_blocklist(request: Request, reply: Reply, connection: ConnectionSettings) -> Answer:
    """Return what a reply means for each change of its request."""
    body = parse_body(reply.text)
    found = classify(reply.status, body)
    if found.kind is ReplyKind.NOT_FOUND:  # there is nothing in these calls that could be missing
        found = replace(found, kind=ReplyKind.UNAUTHORIZED)
    if request.purpose == LOOKUP and found.kind in (ReplyKind.INSPECT, ReplyKind.INVALID, ReplyKind.RETRY):
        return _looked_up(request, reply, found, body, connection)
    if found.kind is ReplyKind.INVALID:
        return _invalid(found, request, reply, body)
    return _accepted(request, reply, connection) if found.kind is ReplyKind.INSPECT else answer(found, request, reply)


def _accepted(request: Request, reply: Reply, connection: ConnectionSettings) -> Answer:
    """Take the 202 for done, or with `verify` wait until it shows; to be looked up makes the least calls."""
    if not connection.verify:
        return Answer(Healthy(), all_of(request.changes, Applied()), code=str(reply.status))
    asked = {change.id for change in request.changes}
    waits = {
        change.id: Retry(*UNCONFIRMED, counts=task.tries >= PATIENT_TRIES, after=reply.retry_after or SHOWN_AFTER)
        for task in request.tasks
        for change in task.changes
        if change.id in asked
    }
    return Answer(Healthy(), waits, code=UNCONFIRMED[0])


def _looked_up(
    request: Request, reply: Reply, found: Classification, body: Body, connection: ConnectionSettings
) -> Answer:
    """Read one person's entries and go on to the next person, or to the calls that the lookups ask for."""
    search: Search = request.memo
    asked = search.waiting[0]
    onward = replace(search, waiting=search.waiting[1:])
    entries = entries_of(body.json, asked) if found.kind is ReplyKind.INSPECT else None
    if entries is None:
        of_one = replace(request, tasks=(asked,), changes=asked.changes)
        outcomes = dict(answer(found, of_one, reply).outcomes)
    else:
        seen = compare(entries, asked, connection)
        outcomes = seen.outcomes
        onward = replace(onward, found=(*onward.found, *seen.remove), absent=(*onward.absent, *seen.absent))
    return Answer(Healthy(), outcomes, _go_on(onward, connection), found.code)


def _go_on(search: Search, connection: ConnectionSettings) -> tuple[Request, ...]:
    if search.waiting:
        return (lookup(search, connection),)
    again = (block(search.absent),) if search.absent else ()
    return (*again, write("DELETE", UNBLOCK, search.found)) if search.found else again


def _invalid(found: Classification, request: Request, reply: Reply, body: Body) -> Answer:
    """Cut out exactly what the reply names and send the rest again; where it names nothing, try each half by itself."""
    named = [(_PLACE.fullmatch(violation.path), violation.message) for violation in body.violations]
    if any(match and match[3] == "accountKey" for match, _ in named):
        return answer(replace(found, kind=ReplyKind.UNAUTHORIZED, reason=_WRONG_ACCOUNT), request, reply)
    rejected: dict[int, Outcome] = {}
    for match, message in named:
        if match:
            rejection = violation_of(_OUR_NAMES[match[3]], message)
            rejected.update(dict.fromkeys(_changes_at(request.memo, match), rejection))
    if not rejected and len(request.changes) == 1:
        return answer(found, request, reply)
    rest = [change.id for change in request.changes if change.id not in rejected]
    further = [_again(request, some) for some in ([rest] if rejected else halves(rest)) if some]
    return Answer(Healthy(), rejected, tuple(further), found.code)


def _changes_at(groups: Sequence[Sequence[Item]], match: re.Match[str]) -> list[int]:
    group = groups[int(match[1])] if int(match[1]) < len(groups) else ()
    if match[2] is None:
        return [item.change.id for item in group]
    return [item.change.id for item in group[int(match[2]) : int(match[2]) + 1]]


def _again(request: Request, ids: Sequence[int]) -> Request:
    meant = set(ids)
    items = [item for group in request.memo for item in group if item.change.id in meant]
    return write(request.method, request.purpose, items)


@dataclass(slots=True)
class Seen:
    """What follows from a person's entries: outcomes of changes, entries to remove, and entries that are missing."""

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    remove: list[Item] = field(default_factory=list)
    absent: list[Item] = field(default_factory=list)


def entries_of(body: Mapping[str, Any] | None, task: CustomerTask) -> list[Entry] | None:
    """Return the person's entries, or None if the body shows no list.

    {"results": [{"sender": "64350", "destination": "12022921994", "sourceType": "CUSTOM", "channel": "SMS",
     "accountKey": "8F07…", "createdDate": "2022-08-18T12:36:42.123Z"}], "paging": {…}}
    """
    results = body.get("results") if body else None
    if not isinstance(results, list):
        return None
    person = fold_destination(task.address["destination"])
    return [entry for entry in results if isinstance(entry, dict) and _destination(entry) == person]


def compare(entries: Sequence[Entry], task: CustomerTask, connection: ConnectionSettings) -> Seen:
    """Return what follows from a person's entries for each of the task's changes."""
    seen, wrote = Seen(), connection.verify and task.tries > 0
    for change in task.changes:
        if change.action is Action.OPTOUT:
            if any(_place(entry) == read_place(change.slot) for entry in entries):
                seen.outcomes[change.id] = Applied()
            else:
                seen.absent.append(entry_of(task, change, connection))
    left = list(entries)
    # The widest first: the entries that it removes do not stand in the way of the others.
    for change in sorted((one for one in task.changes if one.action is Action.OPTIN), key=_width):
        found = _removal(left, task, change)
        if isinstance(found, PermanentFailure):
            seen.outcomes[change.id] = found
            continue
        left = [entry for entry in left if entry not in found]
        seen.remove += [Item(task, change, entry["destination"], properties_of(entry)) for entry in found]
        if not found:
            seen.outcomes[change.id] = Applied() if wrote else Unchanged()
    return seen


def _removal(entries: Sequence[Entry], task: CustomerTask, change: ClaimedChange) -> list[Entry] | PermanentFailure:
    """Return the entries to remove for an opt-in, or why none may be removed.

    The newest change wins here as well. Of an entry that a call like ours made, the ledger knows since when it holds:
    its date at Infobip is only that of our call, which may have been late. Of any other the date decides.
    """
    own = Version(change.effective_at, change.action, change.id)
    found: list[Entry] = []
    for entry in entries:
        place, known = _place(entry), _newest_of(entry, task)
        if known is None and _is_newer(entry, change.effective_at) and _meets(change, place):
            return NEWER
        if known is not None and known.action is Action.OPTOUT and rank(known) > rank(own):
            continue
        if _covers(change, place) or (known is not None and known.action is Action.OPTIN and _meets(change, place)):
            found.append(entry)
        elif _meets(change, place):
            return INEXPRESSIBLE
    if any(entry.get("channel") not in (None, *REMOVE_CHANNELS) for entry in found):
        return NOT_REMOVABLE
    return found


def _newest_of(entry: Entry, task: CustomerTask) -> Version | None:
    """Return the newest change of an entry's own slot, if the entry is one that our calls make."""
    return task.newest_by_slot.get(blocked_text(_place(entry))) if entry.get("sourceType", OURS) == OURS else None


def _place(entry: Entry) -> Place:
    return Place(*(str(entry.get(name) or "") for name in Place._fields))


def _width(change: ClaimedChange) -> int:
    return sum(map(bool, read_place(change.slot) or ()))


def _covers(change: ClaimedChange, place: Place) -> bool:
    return (read_place(change.slot) or Place()).covers(place)


def _meets(change: ClaimedChange, place: Place) -> bool:
    return (read_place(change.slot) or Place()).meets(place)


def _destination(entry: Entry) -> str | None:
    there = entry.get("destination")
    return fold_destination(there) if isinstance(there, str) else None


def _is_newer(entry: Entry, given: int) -> bool:
    """Whether an entry was made after an opt-in was given; one without a date that can be read may have been."""
    created = entry.get("createdDate")
    try:
        return to_micros(read_time(created)) > given
    except UnusableTime as error:
        return error.code != "time_too_old"
