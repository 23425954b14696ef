"""What a reply means: the kinds of reply, the statuses that mean the same at every provider, and what follows of each.

A provider's `codes.py` turns status and body into a `Classification`. Where all changes of the request share one
outcome, `answer_for` makes the answer of it: this is the one place that says what becomes of them on a 429, a 401 or a
gateway's page. For how long no process calls after a 429, `worker/delivery/throttling.py` says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from http import HTTPStatus
from typing import Any, assert_never

from consent.ledger.queue.tasks import ClaimedChange
from consent.outcome import Health, Healthy, Outcome, PermanentFailure, Retry, Throttled, Unauthorized, Unavailable
from worker.providers.contract import Answer, Reply, Request


class ReplyKind(IntEnum):
    """What a reply says, named by what it is about; of several codes in one reply the smallest kind decides."""

    UNAUTHORIZED = 0
    """A person must fix the connection: credentials, rights, address or method. Its changes wait."""
    THROTTLED = 1
    """The calls come too fast. The changes wait for `Retry-After`, else for as long as the provider's page says."""
    UNAVAILABLE = 2
    """The provider cannot work at the moment, for any customer. Its changes wait."""
    PERMANENT = 3
    """It is about the target: no change of the request will ever be taken."""
    NOT_FOUND = 4
    """What the call was for is not there; the provider's `responses.py` says what that means."""
    INVALID = 5
    """Something in the request is not accepted: it is split, and a change that is alone is a dead letter."""
    RETRY_BRIEFLY = 6
    """It is about these changes and may pass, but not for long: `BRIEF_TRIES` answers, then a dead letter."""
    RETRY = 7
    """It is about these changes and may pass."""
    INSPECT = 8
    """A success, in whole or in part: what the body shows decides."""


@dataclass(frozen=True, slots=True)
class Classification:
    """The kind of a reply, the code that the attempt is filed under, and why, in our own words.

    `field` is the one column of a row that the reply names, if it names one. Nothing is copied from the reply: a
    provider's text may name a person. `ours` says whether it is about what we send for everybody alike, the account or
    the form of the request; where it is not said (None), that is so of what is INVALID.
    """

    kind: ReplyKind
    code: str
    reason: str
    field: str = ""
    ours: bool | None = None


BRIEF_TRIES = 3
"""After so many answers a change with a `RETRY_BRIEFLY` code becomes a dead letter."""

USUAL_PAUSE = 60.0
"""Seconds to wait after a 429 without Retry-After, where the provider's limits are per minute."""

SHORTEST_PAUSE = 1.0
"""A second: a provider that asks us to slow down and names no time at all does not want the same call at once."""

_EVERYWHERE: dict[int, tuple[ReplyKind, str]] = {
    405: (ReplyKind.UNAUTHORIZED, "{provider} does not know this call: see the connection's BASE_URL"),
    408: (ReplyKind.UNAVAILABLE, "{provider} did not get the request in time"),
    415: (ReplyKind.UNAUTHORIZED, "{provider} does not accept this media type: see the connection's HEADERS"),
    429: (ReplyKind.THROTTLED, "{provider} asked us to slow down"),
    502: (ReplyKind.UNAVAILABLE, "{provider} cannot answer at the moment"),
    503: (ReplyKind.UNAVAILABLE, "{provider} cannot answer at the moment"),
    504: (ReplyKind.UNAVAILABLE, "{provider} cannot answer at the moment"),
}


def statuses(provider: str, own: Mapping[int, tuple[ReplyKind, str]]) -> dict[int, Classification]:
    """Return the table of HTTP statuses of a provider: those that mean the same everywhere (RFC 9110), and its own."""
    table = {status: (kind, reason.format(provider=provider)) for status, (kind, reason) in _EVERYWHERE.items()}
    return {status: Classification(kind, str(status), reason) for status, (kind, reason) in (table | {**own}).items()}


def foreign(provider: str, status: int, *, is_own: bool, is_json: bool) -> Classification | None:
    """Classify what something in front of the provider answered, such as a gateway; None if the provider answered.

    `is_own` says whether the body has the provider's own form. A redirect is never followed: credentials and consent
    go to the configured address only.
    """
    code = str(status)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        elsewhere = f"{provider} redirects elsewhere: see the connection's BASE_URL"
        return Classification(ReplyKind.UNAUTHORIZED, code, elsewhere)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and not is_own:
        return in_its_place(provider, status)
    if status == HTTPStatus.BAD_REQUEST and not is_json:
        return Classification(ReplyKind.RETRY, code, f"the request was refused in a form that is not {provider}'s")
    return None


def in_its_place(provider: str, status: int) -> Classification:
    """Classify a page that is not the provider's."""
    return Classification(ReplyKind.UNAVAILABLE, str(status), f"something before {provider} answered in its place")


def undocumented(provider: str, status: int) -> Classification:
    """Classify a status that no page documents: it makes no dead letter at once."""
    reason = f"{provider} answered in a way that it does not document ({status})"
    return Classification(ReplyKind.RETRY, str(status), reason)


def answer_for(found: Classification, request: Request, reply: Reply, usual_pause: float = USUAL_PAUSE) -> Answer:
    """Return the answer in which all changes of the request share one outcome.

    `usual_pause` is for how many seconds to leave the provider alone after a 429 that does not say.
    """
    match found.kind:
        case ReplyKind.UNAUTHORIZED:
            return _waiting(found, request, Unauthorized(found.reason))
        case ReplyKind.THROTTLED:
            after = pause(reply.retry_after, usual_pause)
            return _waiting(found, request, Throttled(after), after)
        case ReplyKind.UNAVAILABLE:
            health = Throttled(reply.retry_after) if reply.retry_after else Unavailable(found.reason)
            return _waiting(found, request, health, reply.retry_after)
        case ReplyKind.PERMANENT | ReplyKind.NOT_FOUND | ReplyKind.INVALID:
            return Answer(Healthy(), permanent_failure(found, request.changes), code=found.code)
        case ReplyKind.RETRY_BRIEFLY:
            tired = [change for change in request.changes if change.attempts + 1 >= BRIEF_TRIES]
            outcomes = all_of(request.changes, retry(found, reply)) | permanent_failure(found, tired)
            return Answer(Healthy(), outcomes, code=found.code)
        case ReplyKind.RETRY | ReplyKind.INSPECT:
            return Answer(Healthy(), all_of(request.changes, retry(found, reply)), code=found.code)
        case _:
            assert_never(found.kind)


def pause(asked: float | None, usual: float) -> float:
    """Return the seconds to wait after a 429: what was asked for, or as long as usual if nothing was."""
    return usual if asked is None else max(asked, SHORTEST_PAUSE)


def retry(found: Classification, reply: Reply, *, witnessed: bool = False) -> Retry:
    """Return the outcome of a change that may work another time; it counts against the change."""
    return Retry(found.code, found.reason, counts=True, after=reply.retry_after, witnessed=witnessed)


def permanent_failure(found: Classification, changes: Iterable[ClaimedChange]) -> dict[int, Outcome]:
    """Return a dead letter for each of the changes."""
    ours = found.kind is ReplyKind.INVALID if found.ours is None else found.ours
    return all_of(changes, PermanentFailure(found.code, found.reason, ours))


def all_of(changes: Iterable[ClaimedChange], outcome: Outcome) -> dict[int, Outcome]:
    """Return the same outcome for each of the changes."""
    return dict.fromkeys((change.id for change in changes), outcome)


def witnessed(reply: Reply, *, shown: bool) -> Answer:
    """Answer a read about another customer: the provider works only if it showed what was asked for."""
    health = Healthy() if shown else Unavailable("the provider does not show another customer either")
    return Answer(health, {}, code=str(reply.status))


def json_object(text: str) -> dict[str, Any] | None:
    """Return the object that a body holds; None for anything else.

    An object with what no JSON may hold (half a character, NaN, a number without end) counts as none: it could not be
    sent back.
    """
    try:
        body = json.loads(text)
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def denies(body: Mapping[str, Any]) -> bool:
    """Whether a body says that a call failed, in a form that the provider's pages do not have.

    Gateways and new versions of an API answer 200 to a call that was not carried out. It is no proof of anything, but
    where a success shows nothing itself, it is all that there is.
    """
    fields = {name.replace("_", "").lower(): value for name, value in body.items()}
    status = str(fields.get("statuscode", fields.get("status", ""))).strip().lower()
    failed = status in _FAILED or (status.isdecimal() and len(status) <= _STATUS_DIGITS and int(status) >= _BAD)
    return failed or any(fields.get(name) for name in _FAULTS) or any(fields.get(name) is False for name in _DONE)


_FAULTS = frozenset(
    "error errors errorcode errormessage exception exceptions fault faults failure failures violations".split()  # noqa: SIM905
)
_FAILED = frozenset({"error", "fail", "failed", "failure", "rejected", "false"})
_DONE = ("success", "succeeded", "ok")
_BAD, _STATUS_DIGITS = HTTPStatus.BAD_REQUEST, 3


def _waiting(found: Classification, request: Request, health: Health, after: float | None = None) -> Answer:
    """Let the changes wait without counting it against them: it is about the connection, not about them."""
    waits = Retry(found.code, found.reason, counts=False, after=after)
    return Answer(health, all_of(request.changes, waits), code=found.code)
