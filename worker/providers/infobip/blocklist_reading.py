"""From the reply to a blocklist call to what becomes of each person's change."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from consent.connection import ConnectionSettings
from consent.outcome import Applied, Outcome, TryLater, Well
from worker.providers import verdicts
from worker.providers.contract import Answer, Reply, Request
from worker.providers.infobip.blame import rejection
from worker.providers.infobip.blocklist_calls import LOOKUP, UNBLOCK, Item, Search, block, lookup, write
from worker.providers.infobip.blocklist_entries import entries_of, weigh
from worker.providers.infobip.body import Body, parse_body
from worker.providers.infobip.judging import Meaning, Next, judge, undivided, verdict
from worker.providers.infobip.sharing import halves

SHOWN_AFTER = 5.0
"""Seconds after which what was accepted should show: how long it takes is not documented."""

PATIENT_TRIES = 5
"""So many looks that show nothing are put down to slowness; from then on they count."""

UNCONFIRMED = ("unconfirmed", "Infobip accepted the change, but its blocklist does not show it yet")
_PLACE = re.compile(r"blocklist\[(\d{1,6})\](?:\.destinations\[(\d{1,6})\])?\.(to|channel|sender|accountKey)", re.ASCII)
_OUR_NAMES = {"to": "destination", "channel": "channel", "sender": "sender"}
_WRONG_ACCOUNT = "Infobip does not accept the sub-account: see the connection's ACCOUNT_KEY"


def read_blocklist(request: Request, reply: Reply, connection: ConnectionSettings) -> Answer:
    """Say what a reply means for each change of its request."""
    body = parse_body(reply.text)
    meaning = judge(reply.status, body)
    if meaning.next is Next.GONE:  # there is nothing in these calls that could be missing
        meaning = replace(meaning, next=Next.REFUSED)
    if request.purpose == LOOKUP and meaning.next in (Next.LOOK, Next.FAULTY, Next.LATER):
        return _looked_up(request, reply, meaning, body, connection)
    if meaning.next is Next.FAULTY:
        return _fault(request, body, meaning)
    return verdict(meaning, request, reply) if meaning.next is not Next.LOOK else _accepted(request, reply, connection)


def _accepted(request: Request, reply: Reply, connection: ConnectionSettings) -> Answer:
    """Take the 202 for done, or with `verify` wait until it shows; to be looked up makes the least calls."""
    if not connection.verify:
        return Answer(Well(), verdicts.all_of(request.changes, Applied()), code=str(reply.status))
    asked = {change.id for change in request.changes}
    waits = {
        change.id: TryLater(*UNCONFIRMED, counts=task.tries >= PATIENT_TRIES, after=reply.retry_after or SHOWN_AFTER)
        for task in request.tasks
        for change in task.changes
        if change.id in asked
    }
    return Answer(Well(), waits, code=UNCONFIRMED[0])


def _looked_up(request: Request, reply: Reply, meaning: Meaning, body: Body, connection: ConnectionSettings) -> Answer:
    """Take in one person's entries and go on to the next person, or to the calls that the lookups ask for."""
    search: Search = request.memo
    asked = search.waiting[0]
    onward = replace(search, waiting=search.waiting[1:])
    entries = entries_of(body.json, asked) if meaning.next is Next.LOOK else None
    if entries is None:
        of_one = replace(request, tasks=(asked,), changes=asked.changes)
        outcomes = dict(verdict(meaning, of_one, reply).outcomes)
    else:
        seen = weigh(entries, asked, connection)
        outcomes = seen.outcomes
        onward = replace(onward, found=(*onward.found, *seen.remove), absent=(*onward.absent, *seen.absent))
    return Answer(Well(), outcomes, _go_on(onward, connection), meaning.code)


def _go_on(search: Search, connection: ConnectionSettings) -> tuple[Request, ...]:
    if search.waiting:
        return (lookup(search, connection),)
    again = (block(search.absent),) if search.absent else ()
    return (*again, write("DELETE", UNBLOCK, search.found)) if search.found else again


def _fault(request: Request, body: Body, meaning: Meaning) -> Answer:
    """Cut out exactly what the reply names and send the rest again; where it names nothing, each half by itself."""
    named = [(_PLACE.fullmatch(violation.path), violation.words) for violation in body.violations]
    if any(match and match[3] == "accountKey" for match, _ in named):
        return verdicts.refused(request, meaning.code, _WRONG_ACCOUNT)
    told: dict[int, Outcome] = {}
    for match, words in named:
        if match:
            told.update(dict.fromkeys(_changes_at(request.memo, match), rejection(_OUR_NAMES[match[3]], words)))
    if not told and len(request.changes) == 1:
        return undivided(meaning, request)
    rest = [change.id for change in request.changes if change.id not in told]
    further = [_again(request, some) for some in ([rest] if told else halves(rest)) if some]
    return Answer(Well(), told, tuple(further), meaning.code)


def _changes_at(groups: Sequence[Sequence[Item]], match: re.Match[str]) -> list[int]:
    group = groups[int(match[1])] if int(match[1]) < len(groups) else ()
    if match[2] is None:
        return [item.change.id for item in group]
    return [item.change.id for item in group[int(match[2]) : int(match[2]) + 1]]


def _again(request: Request, ids: Sequence[int]) -> Request:
    meant = set(ids)
    items = [item for group in request.memo for item in group if item.change.id in meant]
    return write(request.method, request.purpose, items)
