"""Gupshup's error table, by message and by HTTP status, and how a reply is classified.

A status alone does not decide: under 400 Gupshup reports a missing subscription, a wrong URL and a wrong token. The
source is partner-docs.gupshup.io/reference/put_partner-app-appid-subscription-subscriptionid, or what stands beside.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from worker.providers.classify import (
    Classification,
    ReplyKind,
    denies,
    foreign,
    in_its_place,
    statuses,
    undocumented,
)

_NAME = "Gupshup"
_TOKEN = "Gupshup refused the token of this app: see the connection's TOKENS, TOKEN and TOKEN_PREFIX"  # noqa: S105
_PARTNER = "Gupshup does not know the token's partner: see the connection's TOKENS and TOKEN"
_URL = "Gupshup does not accept the url, or could not reach it: see do_check"
_TAG = "another subscription of the app has this tag: a tag must be unique in its app"
_FAILED = "Gupshup failed on this request"

MESSAGES: dict[str, Classification] = {
    "subscription does not exist": Classification(
        ReplyKind.PERMANENT, "no_such_subscription", "Gupshup has no such subscription"
    ),
    "not subscription owner": Classification(
        ReplyKind.PERMANENT, "not_owner", "this subscription belongs to another app"
    ),
    "api key is not associated with partner": Classification(ReplyKind.UNAUTHORIZED, "400", _PARTNER),
    "authentication failed": Classification(ReplyKind.UNAUTHORIZED, "401", _TOKEN),
    "too many requests": Classification(ReplyKind.THROTTLED, "429", "Gupshup asked us to slow down"),
    # The page on deleting subscriptions (partner-docs.gupshup.io):
    "unauthorized access": Classification(ReplyKind.UNAUTHORIZED, "403", _TOKEN),
    "internal server error": Classification(ReplyKind.RETRY, "500", _FAILED),
    # partner-docs.gupshup.io/reference/setsubscription-api-v3:
    "invalid url passed": Classification(ReplyKind.INVALID, "invalid_url", _URL, field="url"),
    "unable to create subscription": Classification(ReplyKind.RETRY, "500", _FAILED),
    # That tags are unique is documented; this text is our guess:
    "duplicate tag": Classification(ReplyKind.INVALID, "duplicate_tag", _TAG, field="tag"),
}
"""What a message means that begins like this, in lower case."""

STATUSES = statuses(
    _NAME,
    {
        400: (ReplyKind.INVALID, "Gupshup does not accept the request"),
        401: (ReplyKind.UNAUTHORIZED, _TOKEN),
        403: (ReplyKind.UNAUTHORIZED, "Gupshup refused access: the token may not make this call"),
        404: (ReplyKind.UNAUTHORIZED, "Gupshup does not know the resource: see the connection's BASE_URL"),
        422: (ReplyKind.INVALID, "Gupshup does not accept the request"),
        500: (ReplyKind.RETRY, _FAILED),
    },
)
"""What a status means where no message decides."""


def classify(status: int, body: dict[str, Any] | None) -> Classification:
    """Classify a reply by its status and its body as a JSON object: the message decides before the status."""
    message = _message(body)
    known = next((found for text, found in MESSAGES.items() if message.startswith(text)), None)
    if known is not None:
        return known
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return _success(status, body)
    before = foreign(_NAME, status, is_own=body is not None, is_json=body is not None)
    return before or STATUSES.get(status) or undocumented(_NAME, status)


def _success(status: int, body: dict[str, Any] | None) -> Classification:
    if body is None:
        return in_its_place(_NAME, status)
    if denies(body):
        reason = "Gupshup answered with an error that it does not document"
        return Classification(ReplyKind.RETRY, "unknown", reason)
    return Classification(ReplyKind.INSPECT, str(status), "Gupshup's answer does not show the subscription")


def _message(body: dict[str, Any] | None) -> str:
    if body is None or str(body.get("status")).lower() == "success":
        return ""
    return str(body.get("message", "")).strip().lower()
