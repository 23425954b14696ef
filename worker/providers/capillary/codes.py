"""Capillary's error table, and how a reply is classified.

Sources: "Update Subscription Details" (docs.capillarytech.com/reference/update_subscription_details), the pages
on status codes beside it, and Capillary's older public documentation (github.com/Capillary/api-documentation). Codes
arrive in the body, under HTTP 200 as well as under an HTTP error.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from worker.providers.classify import Classification, ReplyKind, foreign, in_its_place

_NAME = "Capillary"

LONGEST_CODE = 6
"""Digits of a code that may be shown; what is longer may be a telephone number."""

_TABLE: dict[ReplyKind, dict[int, str]] = {
    ReplyKind.UNAUTHORIZED: {
        401: "Capillary refused the credentials",
        403: "Capillary refused access: these credentials may not make this call, or v2 is not enabled for the org",
        # A wrong resource, method, media type or header pair cannot be the fault of one change: as dead letters, they
        # would bury every change of the connection (the vendor's pages disagree on POST and PUT, so expect a 405).
        404: "Capillary does not know the resource: see the connection's BASE_URL",
        405: "Capillary does not allow this method: set the connection's METHOD to POST or PUT",
        415: "Capillary does not accept this media type: see the connection's HEADERS",
        1061: "an attribution header lacks its pair: see the connection's HEADERS",
    },
    ReplyKind.THROTTLED: {429: "Capillary asked us to slow down"},
    ReplyKind.UNAVAILABLE: {
        461: "Capillary's search engine is busy",
        503: "Capillary could not check the authorization",
    },
    ReplyKind.PERMANENT: {
        1012: "Capillary cannot find this customer",
        1062: "Capillary's test and control rule refuses this customer",
        1064: "Capillary does not accept this org id",
        8011: "Capillary does not know this source account",
        8013: "Capillary does not accept this identifier",
        8015: "Capillary finds no customer for this identifier",
        8045: "this source needs an account: fill source_account_id",
        8065: "the customer is not registered in this source",
        8109: "the customer was erased after a request to delete personal data: do not bring the record back",
    },
    ReplyKind.INVALID: {
        400: "Capillary finds the request malformed or incomplete",
        1000: "the subscription could not be added: invalid customer details or missing data",
        1060: "Capillary accepts fewer rows in one request",
        1101: "Capillary does not accept this channel",
        1102: "Capillary does not accept this priority",
        1103: "Capillary does not accept this scope",
        1104: "Capillary does not accept this identifier",
        1105: "Capillary does not accept several scopes at once",
        1106: "Capillary does not accept this status",
    },
    ReplyKind.RETRY_BRIEFLY: {
        1109: "Capillary was unable to add or update the subscription",
        1110: "Capillary was unable to fetch the subscription",
    },
    ReplyKind.RETRY: {
        500: "Capillary failed on this request",
        521: "Capillary is busy with the same customer",
    },
    ReplyKind.INSPECT: {
        201: "some rows of the request failed",
        91022: "Capillary failed to update the subscription for this channel and priority",
    },
}

_OURS = {1064, 8011, 8045}
"""Codes about a target that speak of our account: the next customer will draw the same."""

_NOT_OURS = {1000, 1104}
"""Codes about a request that speak of the customer in it."""

CODES = {
    code: Classification(kind, str(code), reason, ours=code in _OURS or (False if code in _NOT_OURS else None))
    for kind, reasons in _TABLE.items()
    for code, reason in reasons.items()
}
"""Every documented code."""

ROW_FAILED = 91022
"""The code of a row that was not updated while others were."""

INSPECT = Classification(ReplyKind.INSPECT, "200", "the rows of the reply tell")
"""What a success means: nothing, until its rows have been looked at."""

UNCONFIRMED = Classification(
    ReplyKind.RETRY, "unconfirmed", "neither Capillary's reply nor its read-back shows this change"
)
"""What becomes of a change that no reply proves."""

_STATUS_DECIDES = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)
_SUCCESS = range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES)


def classify(
    status: int, codes: Sequence[int], *, is_json: bool, is_capillary: bool, names_rows: bool
) -> Classification:
    """Classify a reply by its status and by what its body says.

    The codes about the whole request decide before the status, because a success may be none; of several codes the one
    whose `ReplyKind` is smallest. `is_capillary` tells a body that has Capillary's own lists, `names_rows` one that
    names rows that failed.
    """
    if status in _STATUS_DECIDES:
        return CODES[status]
    if codes:
        return min(map(lookup, codes), key=lambda found: found.kind)
    if status in _SUCCESS or names_rows:
        return INSPECT
    if status == HTTPStatus.REQUEST_TIMEOUT:
        return in_its_place(_NAME, status)
    return foreign(_NAME, status, is_own=is_capillary, is_json=is_json) or lookup(status)


def lookup(code: int) -> Classification:
    """Return what a code means; one that no page documents is tried again later."""
    known = CODES.get(code)
    if known:
        return known
    shown = str(code) if 0 < code < 10**LONGEST_CODE else "unknown"
    reason = f"Capillary answered with a code that it does not document ({shown})"
    return Classification(ReplyKind.RETRY, shown, reason)
