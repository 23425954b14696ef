"""Reading Capillary's replies: HTTP 200 is not proof, only a row of the reply is.

First what becomes of each change, then what a body says (nothing here trusts its shape), then which changes its rows
prove.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import WITNESS, ClaimedChange
from consent.outcome import Applied, Healthy, Outcome
from worker.providers.capillary.codes import CODES, LONGEST_CODE, ROW_FAILED, UNCONFIRMED, classify
from worker.providers.capillary.requests import ALONE, READBACK, each_alone, read_back
from worker.providers.capillary.row import Slot, read_slot
from worker.providers.classify import (
    Classification,
    ReplyKind,
    all_of,
    answer_for,
    permanent_failure,
    retry,
    witnessed,
)
from worker.providers.contract import Answer, Reply, Request

_INSPECT = ReplyKind.INSPECT  # asked for with every reply: in Python 3.11 each look at a member is a call


def read(request: Request, reply: Reply, connection: ConnectionSettings) -> Answer:
    """Return what a reply means for each change of its request."""
    body = parse_body(reply.text)
    names_rows = bool(body.failed) or body.partial
    found = classify(
        reply.status, body.codes, is_json=body.is_json, is_capillary=body.is_capillary, names_rows=names_rows
    )
    if request.purpose == WITNESS:
        return witnessed(reply, shown=found.kind is _INSPECT and body.is_capillary)
    if request.purpose == READBACK:
        return _read_back(request, reply, body, found)
    if found.kind is _INSPECT:
        return _row_by_row(request, reply, body, connection)
    if found.kind is ReplyKind.INVALID and len(request.changes) > 1:
        return Answer(Healthy(), {}, tuple(each_alone(request, request.changes, connection)), found.code)
    return answer_for(found, request, reply)


def _row_by_row(request: Request, reply: Reply, body: Body, connection: ConnectionSettings) -> Answer:
    """Apply what the rows prove, try each failed row alone, and read back what the reply does not show."""
    failed, stray = failed_ones(request.changes, body)
    failed_ids = {change.id for change in failed}
    # A failure that names none of our rows may be any of them: then the echo proves nothing.
    sure = set() if stray else proven(request.changes, body.echoes) - failed_ids
    outcomes: dict[int, Outcome] = dict.fromkeys(sorted(sure), Applied())
    if len(sure) == len(request.changes):
        return Answer(Healthy(), outcomes, code=str(reply.status))

    missing = [change for change in request.changes if change.id not in sure | failed_ids]
    further = [read_back(request, missing)] if missing else []
    if request.purpose == ALONE:
        outcomes |= permanent_failure(CODES[ROW_FAILED], failed)
    else:
        further = [*each_alone(request, failed, connection), *further]
    filed_under = str(ROW_FAILED) if failed else UNCONFIRMED.code
    return Answer(Healthy(), outcomes, tuple(further), filed_under)


def _read_back(request: Request, reply: Reply, body: Body, found: Classification) -> Answer:
    if found.kind in (ReplyKind.THROTTLED, ReplyKind.UNAVAILABLE, ReplyKind.PERMANENT) or found.code == "401":
        return answer_for(found, request, reply)
    # Any other failure is only the read-back's: a connection that may write but not read must not be held up by it.
    echoes = body.echoes if found.kind is _INSPECT else ()
    seen = [change for change in request.changes if shown(change, request.tasks[0].changes, echoes)]
    witnessed = found.kind is _INSPECT and body.is_capillary
    outcomes = all_of(request.changes, retry(UNCONFIRMED, reply, witnessed=witnessed)) | all_of(seen, Applied())
    return Answer(Healthy(), outcomes, code=str(reply.status) if len(seen) == len(outcomes) else UNCONFIRMED.code)


_ROW_NAMED = re.compile(r"failed to update subscription for (\S+) channel and priority (\w+)", re.IGNORECASE)


class Echo(NamedTuple):
    """A row that a reply shows, in folded spelling; None stands for what it does not show."""

    channel: str
    priority: str
    type: str
    account: str | None
    org_unit: str | None


@dataclass(frozen=True, slots=True)
class Body:
    """What a body says: codes about the whole request, rows that failed, rows that are in.

    `is_json` tells an object from anything else, `is_capillary` one that has Capillary's own lists. A failed row is
    named by its folded channel and priority, or by None where the text names none.
    """

    is_json: bool = False
    is_capillary: bool = False
    codes: tuple[int, ...] = ()
    failed: tuple[tuple[str, str] | None, ...] = ()
    partial: bool = False
    echoes: tuple[Echo, ...] = ()


def parse_body(text: str) -> Body:
    """Read a body (see `_parse`). Bodies name no customer, so many are alike: short ones are kept."""
    return _parse_again(text) if len(text) <= _SHORT else _parse(text)


def _parse(text: str) -> Body:
    """Read a body; one that is no JSON object says nothing.

    Full success (docs.capillarytech.com/reference/update_subscription_details; it does not name the customer):

        {"scope": {…}, "subscriptions": [{"channel": "EMAIL", "accountId": "01", "priority": "BULK", "type": "OPTOUT",
         "orgUnitId": 200031782, "sourceName": "FACEBOOK"}, …], "campaignId": -1, …, "warnings": []}

    Silent loss (github.com/Capillary/api-documentation: four rows sent, three returned; MOBILE has become SMS, and the
    org unit is gone):

        {"subscriptions": [{"channel": "SMS", "accountId": "123", "priority": "TRANS", "type": "OPTIN"}, …],
         "warnings": []}

    Failure (same page), and a row that failed (91022 is documented; its place among the warnings is our inference):

        {"warnings": [],
         "errors": [{"status": false, "message": "All requests have failed due to errors", "code": 500}]}
        {"warnings": [{"status": false, "code": 91022,
                       "message": "Failed to update subscription for EMAIL channel and priority BULK."}]}
    """
    body = _object(text)
    if body is None:
        return Body()
    errors = [*_faults(body.get("errors")), *_bare(body)]
    faults = [*errors, *_faults(body.get("warnings"))]
    codes = [_code(fault) for fault in errors]
    return Body(
        is_json=True,
        is_capillary=bool({"errors", "warnings", "subscriptions"} & body.keys()),
        codes=tuple(code for code in codes if not _about_rows(code)),
        failed=tuple(_named(fault) for fault in faults if _code(fault) == ROW_FAILED),
        partial=any(_about_rows(code) for code in codes),
        echoes=tuple(_echoes(body.get("subscriptions"))),
    )


_SHORT = 1000  # characters
_parse_again = lru_cache(maxsize=256)(_parse)


@lru_cache(maxsize=256)  # there are few, and two are compared for every change
def folded(channel: str) -> str:
    """Return a channel in the one spelling that compares: Capillary answers SMS where MOBILE was sent."""
    name = channel.strip().casefold()
    return "mobile" if name == "sms" else name


def _object(text: str) -> dict[str, Any] | None:
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        return _lenient_object(text)
    return body if isinstance(body, dict) else None


def _lenient_object(text: str) -> dict[str, Any] | None:
    """Read what is JSON but for half a character or a NaN somewhere: its codes count all the same."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _faults(listed: Any) -> list[Any]:
    faults = listed if isinstance(listed, list) else [listed] if listed else []
    return [fault for fault in faults if not (isinstance(fault, dict) and fault.get("status") is True)]


def _bare(body: dict[str, Any]) -> list[Any]:
    return [body] if body.get("status") is False and "code" in body else []


def _code(fault: Any) -> int:
    code = fault.get("code") if isinstance(fault, dict) else None
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) <= LONGEST_CODE:
        return int(code)
    return code if type(code) is int else 0


def _about_rows(code: int) -> bool:
    return code in CODES and CODES[code].kind is _INSPECT


def _named(fault: Any) -> tuple[str, str] | None:
    match = _ROW_NAMED.search(str(fault.get("message")))
    return (folded(match[1]), match[2].casefold()) if match else None


def _echoes(listed: Any) -> Iterator[Echo]:
    for row in listed if isinstance(listed, list) else []:
        if not isinstance(row, dict):
            continue
        channel, priority, kind = row.get("channel"), row.get("priority"), row.get("type")
        if isinstance(channel, str) and isinstance(priority, str) and isinstance(kind, str):
            rest = (_text(row.get("accountId")), _text(row.get("orgUnitId")))
            yield Echo(folded(channel), priority.strip().casefold(), kind.strip().upper(), *rest)


def _text(value: Any) -> str | None:
    return str(value).strip() if isinstance(value, (str, int)) else None


def failed_ones(changes: Sequence[ClaimedChange], body: Body) -> tuple[list[ClaimedChange], bool]:
    """Return the changes that the reply names as failed, and whether it also names a failure that is none of them.

    In a reply about one single change, every failure is that change's.
    """
    if not body.failed:
        return [], False
    if len(changes) == 1:
        return list(changes), False
    named = {change.id: _pair(read_slot(change.slot)) for change in changes}
    stray = any(failure not in named.values() for failure in body.failed)
    return [change for change in changes if named[change.id] in body.failed], stray


def proven(changes: Sequence[ClaimedChange], echoes: Sequence[Echo]) -> set[int]:
    """Return the ids of the changes that the echoed rows prove.

    An echo that shows no account or org unit may be that of several changes: then it proves them only if there is an
    echo for each of them. An echo that can only be one change's, and says the opposite, disproves it.
    """
    wanted = tuple((change.slot, str(change.action)) for change in changes)
    prove = _proven if len(echoes) <= _FEW else _proven.__wrapped__
    return {changes[place].id for place in prove(wanted, tuple(echoes))}


_FEW = 32  # longer replies are not kept


@lru_cache(maxsize=1024)  # there are few combinations, and they are answered alike
def _proven(wanted: Sequence[tuple[str, str]], echoes: Sequence[Echo]) -> frozenset[int]:
    """Return the places of the proven ones among slots and the action wanted for each."""
    slots = [read_slot(slot) for slot, _ in wanted]
    fitting = [(echo, [place for place, slot in enumerate(slots) if fits(slot, echo)]) for echo in echoes]
    sole = [(echo.type, found[0]) for echo, found in fitting if len(found) == 1]
    certain = {place for kind, place in sole if wanted[place][1] == kind}
    opposed = {place for kind, place in sole if wanted[place][1] != kind}
    shared = [{place for place in found if wanted[place][1] == echo.type} for echo, found in fitting if len(found) > 1]
    return frozenset((certain | {place for place in range(len(wanted)) if _enough(place, shared, certain)}) - opposed)


def shown(change: ClaimedChange, others: Sequence[ClaimedChange], echoes: Sequence[Echo]) -> bool:
    """Say whether a read-back proves a change.

    The published read-back tells neither account nor org unit, so it proves nothing about a change while another
    change of the same customer, that it cannot be told from, wants the opposite.
    """
    mine = [echo for echo in echoes if fits(read_slot(change.slot), echo)]
    opposite = [read_slot(other.slot) for other in others if other.action != change.action]
    agreed = {echo.type for echo in mine} == {str(change.action)}
    return agreed and not any(fits(slot, echo) for slot in opposite for echo in mine)


def fits(slot: Slot, echo: Echo) -> bool:
    """Say whether an echo may be that of a slot: account and org unit are compared only where the echo shows them."""
    return (
        echo.channel == folded(slot.channel)
        and echo.priority == slot.priority.casefold()
        and echo.account in (None, slot.account)
        and echo.org_unit in (None, str(slot.org_unit))
    )


def _pair(slot: Slot) -> tuple[str, str]:
    return folded(slot.channel), slot.priority.casefold()


def _enough(place: int, shared: Sequence[set[int]], certain: set[int]) -> bool:
    mine = [places for places in shared if place in places]
    rivals = set().union(*mine) - certain
    return bool(mine) and len(mine) >= len(rivals)
