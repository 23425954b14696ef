"""From HTTP status and message of a Gupshup reply to what happens next; a status alone does not tell."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Any


class Next(Enum):
    """What happens next on a reply."""

    LOOK = auto()
    """It is a success: what it holds decides."""
    DEAD = auto()
    """It is about the subscription: no change of it will ever be taken."""
    URL = auto()
    """The URL is not accepted."""
    TAG = auto()
    """The tag is not accepted."""
    FAULTY = auto()
    """Something in the form is not accepted."""
    LATER = auto()
    """It is about this request and may pass."""
    REFUSED = auto()
    """A person must mend the app's token, or the connection."""
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


_TOKEN = "Gupshup refused the token of this app: see the connection's TOKENS, TOKEN and TOKEN_PREFIX"  # noqa: S105
_FAILED = Meaning(Next.LATER, "500", "Gupshup failed on this request")

# From the seed page "Update App Subscription" and, where marked, from other pages of partner-docs.gupshup.io.
_BY_MESSAGE: dict[str, Meaning] = {
    "subscription does not exist": Meaning(Next.DEAD, "no_such_subscription", "Gupshup has no such subscription"),
    "not subscription owner": Meaning(Next.DEAD, "not_owner", "this subscription belongs to another app"),
    "api key is not associated with partner": Meaning(
        Next.REFUSED, "400", "Gupshup does not know the token's partner: see the connection's TOKENS and TOKEN"
    ),
    "authentication failed": Meaning(Next.REFUSED, "401", _TOKEN),
    "unauthorized access": Meaning(Next.REFUSED, "403", _TOKEN),  # page on deleting subscriptions
    "too many requests": Meaning(Next.SLOW_DOWN, "429", "Gupshup asked us to slow down"),
    "invalid url passed": Meaning(
        Next.URL, "invalid_url", "Gupshup does not accept the url, or could not reach it: see do_check"
    ),  # page on setting a subscription
    "duplicate tag": Meaning(
        Next.TAG, "duplicate_tag", "another subscription of the app has this tag: a tag must be unique in its app"
    ),  # that tags are unique is documented; this text is our guess
    "internal server error": _FAILED,  # page on deleting subscriptions
    "unable to create subscription": _FAILED,  # page on setting a subscription
}

_BY_STATUS: dict[int, tuple[Next, str]] = {
    400: (Next.FAULTY, "Gupshup does not accept the request"),
    401: (Next.REFUSED, _TOKEN),
    403: (Next.REFUSED, "Gupshup refused access: the token may not make this call"),
    404: (Next.REFUSED, "Gupshup does not know the resource: see the connection's BASE_URL"),
    405: (Next.REFUSED, "Gupshup does not know this call: see the connection's BASE_URL"),
    408: (Next.UNWELL, "Gupshup did not get the request in time"),
    415: (Next.REFUSED, "Gupshup does not accept this media type: see the connection's HEADERS"),
    422: (Next.FAULTY, "Gupshup does not accept the request"),
    429: (Next.SLOW_DOWN, "Gupshup asked us to slow down"),
    500: (Next.LATER, _FAILED.reason),
    502: (Next.UNWELL, "Gupshup cannot answer at the moment"),
    503: (Next.UNWELL, "Gupshup cannot answer at the moment"),
    504: (Next.UNWELL, "Gupshup cannot answer at the moment"),
}
_NOT_GUPSHUP = "something before Gupshup answered in its place"


def judge(status: int, body: dict[str, Any] | None) -> Meaning:
    """Return what a reply means: its message decides before its status."""
    message = _message(body)
    known = next((meaning for text, meaning in _BY_MESSAGE.items() if message.startswith(text)), None)
    if known is not None:
        return known
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return _success(status, body)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return Meaning(Next.REFUSED, str(status), "Gupshup redirects elsewhere: see the connection's BASE_URL")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and body is None:
        return Meaning(Next.UNWELL, str(status), _NOT_GUPSHUP)
    if status == HTTPStatus.BAD_REQUEST and body is None:
        return Meaning(Next.LATER, str(status), "the request was refused in a form that is not Gupshup's")
    undocumented = (Next.LATER, f"Gupshup answered in a way that it does not document ({status})")
    what, reason = _BY_STATUS.get(status, undocumented)
    return Meaning(what, str(status), reason)


def _success(status: int, body: dict[str, Any] | None) -> Meaning:
    if body is None:
        return Meaning(Next.UNWELL, str(status), _NOT_GUPSHUP)
    if str(body.get("status")).lower() == "error":
        return Meaning(Next.LATER, "unknown", "Gupshup answered with an error that it does not document")
    return Meaning(Next.LOOK, str(status), "Gupshup's answer does not show the subscription")


def _message(body: dict[str, Any] | None) -> str:
    if body is None or str(body.get("status")).lower() == "success":
        return ""
    return str(body.get("message", "")).strip().lower()
