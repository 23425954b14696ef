"""Capillary's codes, by what happens next.

The codes and their meanings are from the seed page "Update Subscription Details", from Capillary's "API status codes"
page and from its older public documentation (github.com/Capillary/api-documentation). They arrive in the body, under
HTTP 200 as well as under an HTTP error.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Next(IntEnum):
    """What happens next; where a reply holds several codes, the one that stands first here decides."""

    REFUSED = 0
    """A person must mend the connection: credentials, rights, address or method. Its changes wait."""
    SLOW_DOWN = 1
    """The connection is throttled. Its changes wait."""
    UNWELL = 2
    """The provider cannot work at the moment, for anybody. Its changes wait."""
    DEAD = 3
    """It is about the customer: no row of the request will ever be taken."""
    ALONE = 4
    """Something in the body is wrong: each row is tried alone, and a row that is alone is dead."""
    FEW_TRIES = 5
    """It is about these rows and may pass, but not for long."""
    LATER = 6
    """It is about these rows and may pass."""
    ROWS = 7
    """Some rows are in and some are not: the rows of the reply tell."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What happens next on a code, and why, in our own words: a provider's text may name a person."""

    code: str
    next: Next
    reason: str


FEW = 3
"""After so many answers a row with a FEW_TRIES code is dead."""

LONGEST_CODE = 6
"""Digits of a code that may be shown; what is longer may be a telephone number."""

_TABLE: dict[Next, dict[int, str]] = {
    Next.REFUSED: {
        401: "Capillary refused the credentials",
        403: "Capillary refused access: these credentials may not make this call, or v2 is not enabled for the org",
        # A wrong resource, method, media type or header pair cannot be the fault of one change: as dead letters, they
        # would bury every change of the connection (the vendor's pages disagree on POST and PUT, so expect a 405).
        404: "Capillary does not know the resource: see the connection's BASE_URL",
        405: "Capillary does not allow this method: set the connection's METHOD to POST or PUT",
        415: "Capillary does not accept this media type: see the connection's HEADERS",
        1061: "an attribution header lacks its pair: see the connection's HEADERS",
    },
    Next.SLOW_DOWN: {429: "Capillary asked us to slow down"},
    Next.UNWELL: {
        461: "Capillary's search engine is busy",
        503: "Capillary could not check the authorization",
    },
    Next.DEAD: {
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
    Next.ALONE: {
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
    Next.FEW_TRIES: {
        1109: "Capillary was unable to add or update the subscription",
        1110: "Capillary was unable to fetch the subscription",
    },
    Next.LATER: {
        500: "Capillary failed on this request",
        521: "Capillary is busy with the same customer",
    },
    Next.ROWS: {
        201: "some rows of the request failed",
        91022: "Capillary failed to update the subscription for this channel and priority",
    },
}

MEANINGS = {
    code: Meaning(str(code), what, reason) for what, reasons in _TABLE.items() for code, reason in reasons.items()
}
"""Every documented code."""

ROW_FAILED = 91022
"""The code of a row that was not updated while others were."""

INSPECT = Meaning("200", Next.ROWS, "the rows of the reply tell")
"""What a success means: nothing, until its rows have been looked at."""

UNCONFIRMED = Meaning("unconfirmed", Next.LATER, "neither Capillary's reply nor its read-back shows this change")
"""What becomes of a change that no reply proves."""


def meaning_of(code: int) -> Meaning:
    """Return what happens next on a code; one that no page documents is tried later."""
    known = MEANINGS.get(code)
    if known:
        return known
    shown = str(code) if 0 < code < 10**LONGEST_CODE else "unknown"
    return Meaning(shown, Next.LATER, f"Capillary answered with a code that it does not document ({shown})")
