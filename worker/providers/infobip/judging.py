"""From HTTP status and body of an Infobip reply to what happens next."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import assert_never

from worker.providers import verdicts
from worker.providers.contract import Answer, Reply, Request, pause
from worker.providers.infobip.body import Body


class Next(Enum):
    """What happens next on a reply."""

    LOOK = auto()
    """It is a success: what it holds decides."""
    FAULTY = auto()
    """Something in our body is not accepted."""
    GONE = auto()
    """What we called for is not there."""
    LATER = auto()
    """It is about this request and may pass."""
    REFUSED = auto()
    """A person must mend the connection."""
    SLOW_DOWN = auto()
    """The connection is throttled."""
    UNWELL = auto()
    """The provider cannot work at the moment, for anybody."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What happens next, the code that it is filed under, and why, in our own words."""

    next: Next
    code: str
    reason: str


_TABLE: dict[int, tuple[Next, str]] = {
    400: (Next.FAULTY, "Infobip finds the request malformed"),
    401: (Next.REFUSED, "Infobip refused the API key: see the connection's API_KEY"),
    403: (
        Next.REFUSED,
        "Infobip refused access: the API key needs the scope subscriptions:manage, or blocklist:manage for people",
    ),
    404: (Next.GONE, "Infobip does not know what the call was for"),
    405: (Next.REFUSED, "Infobip does not know this call: see the connection's BASE_URL"),
    408: (Next.UNWELL, "Infobip did not get the request in time"),
    413: (Next.FAULTY, "Infobip finds the request too large"),
    415: (Next.REFUSED, "Infobip does not accept this media type: see the connection's HEADERS"),
    422: (Next.FAULTY, "Infobip finds the request malformed"),
    429: (Next.SLOW_DOWN, "Infobip asked us to slow down"),
    500: (Next.LATER, "Infobip failed on this request"),
    502: (Next.UNWELL, "Infobip cannot answer at the moment"),
    503: (Next.UNWELL, "Infobip cannot answer at the moment"),
    504: (Next.UNWELL, "Infobip cannot answer at the moment"),
}
_STATUS_DECIDES = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)
_LONGEST_PAUSE = 60
_NOT_INFOBIP = "something before Infobip answered in its place"
_ELSEWHERE = "Infobip does not know the resource: see the connection's BASE_URL"


def judge(status: int, body: Body) -> Meaning:
    """Return what a reply means: an error in the body decides before the status, since a success may be none."""
    if status not in _STATUS_DECIDES and body.status is not None:
        return _known(body.status)
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return _success(status, body)
    return _failure(status, body)


def undivided(meaning: Meaning, request: Request) -> Answer:
    """Return the answer to a request that is not accepted and cannot be made smaller: its changes are dead.

    But what finds even the smallest request too large may say so to everybody: whether it does, others show.
    """
    if meaning.code == str(HTTPStatus.REQUEST_ENTITY_TOO_LARGE.value):
        words = "something before Infobip finds even the smallest request too large"
        return verdicts.refused(request, meaning.code, words)
    return verdicts.rejected(request, meaning.code, meaning.reason)


def verdict(meaning: Meaning, request: Request, reply: Reply) -> Answer:
    """Return an answer in which all changes of the request share one fate."""
    match meaning.next:
        case Next.FAULTY | Next.GONE:
            return undivided(meaning, request)
        case Next.REFUSED:
            return verdicts.refused(request, meaning.code, meaning.reason)
        case Next.SLOW_DOWN:
            wait = pause(reply.retry_after, _pause(request))
            return verdicts.slow_down(request, meaning.code, meaning.reason, wait)
        case Next.UNWELL:
            return verdicts.unwell(request, reply, meaning.code, meaning.reason)
        case Next.LATER | Next.LOOK:
            return verdicts.later(request, reply, meaning.code, meaning.reason)
        case _:
            assert_never(meaning.next)


def _failure(status: int, body: Body) -> Meaning:
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return Meaning(Next.REFUSED, str(status), "Infobip redirects elsewhere: see the connection's BASE_URL")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and not body.is_error:
        return Meaning(Next.UNWELL, str(status), _NOT_INFOBIP)
    if status == HTTPStatus.NOT_FOUND and not body.is_error:
        return Meaning(Next.REFUSED, str(status), _ELSEWHERE)
    if status == HTTPStatus.BAD_REQUEST and body.json is None:
        return Meaning(Next.LATER, str(status), "the request was refused in a form that is not Infobip's")
    return _known(status)


def _pause(request: Request) -> float:
    """Wait exponentially longer, up to a minute (docs page on rate limits and throttling): a limit is per second."""
    tries = min((task.tries for task in request.tasks), default=0)
    return float(min(_LONGEST_PAUSE, 2 ** min(tries + 1, 10)))


def _known(status: int) -> Meaning:
    what, reason = _TABLE.get(status, (Next.LATER, f"Infobip answered in a way that it does not document ({status})"))
    return Meaning(what, str(status), reason)


def _success(status: int, body: Body) -> Meaning:
    if body.is_error:
        return Meaning(Next.LATER, "unknown", "Infobip answered with an error that it does not document")
    if body.json is None and not body.blank:
        return Meaning(Next.UNWELL, str(status), _NOT_INFOBIP)
    return Meaning(Next.LOOK, str(status), "Infobip's answer does not show what it should")
