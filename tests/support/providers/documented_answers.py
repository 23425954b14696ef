"""Every documented status code and message of the three APIs, and what must become of its change.

Read it as documentation: what is called, what is answered, what happens next, what the attempt is filed under. The
wording is the vendors'; where a page gives only the code, there is no text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

APPLIED = "applied"
UNCHANGED = "unchanged"
DEAD = "dead"
AGAIN = "tried again, and it counts"
SLOWER = "waits: the connection makes no calls for a while"
UNAVAILABLE = "waits: the provider is unavailable"
STOPS = "waits: the connection (at Gupshup the app) stops until a person has fixed it"


@dataclass(frozen=True)
class Case:
    """An answer to a call, and what must become of the change. `fault` is what is ordered at the sandbox for it."""

    called: str
    code: int | None
    text: str
    becomes: str
    filed: str = ""
    fault: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Name the case."""
        more = ",".join(f"{name}={value}" for name, value in self.fault.items())
        return " ".join(filter(None, (self.called, str(self.code or ""), self.text[:40], more)))

    @property
    def order(self) -> dict[str, Any] | None:
        """The fault to order, or None if the sandbox gives this answer by itself."""
        if self.code is None and not self.fault:
            return None
        known = {"kind": "error", "code": self.code, "message": self.text or None}
        return {name: value for name, value in (known | self.fault).items() if value is not None}


CUSTOMER, BY_MOBILE, THIRD_TRY = "Capillary write", "Capillary write by identifier", "Capillary write, third try"
WRITES, READS = {"on": "write"}, {"on": "read"}

CAPILLARY = (
    Case(CUSTOMER, None, "", APPLIED, "200"),
    Case(CUSTOMER, 201, "One or more requests have failed due to errors", AGAIN, "unconfirmed", WRITES),
    Case(CUSTOMER, 201, "and yet it is there", APPLIED, "200", WRITES | {"commit": True}),
    Case(CUSTOMER, 400, "Bad request / invalid input", DEAD, "400"),
    Case(CUSTOMER, 401, "Authentication failed", STOPS, "401"),
    Case(CUSTOMER, 403, "V2 is not enabled for the org", STOPS, "403"),
    Case(CUSTOMER, 404, "", STOPS, "404"),
    Case(CUSTOMER, 405, "The operation is not supported for the resource", STOPS, "405"),
    Case(CUSTOMER, 415, "", STOPS, "415"),
    Case(CUSTOMER, 429, "", SLOWER, "429", {"kind": "throttle", "code": None}),
    Case(CUSTOMER, 429, "with Retry-After", SLOWER, "429", {"kind": "throttle", "code": None, "retry_after": 7}),
    Case(CUSTOMER, 461, "Search engine busy, try after some time", UNAVAILABLE, "461"),
    Case(CUSTOMER, 500, "All requests have failed due to errors", AGAIN, "500"),
    Case(CUSTOMER, 500, "in the body of a 200", AGAIN, "500", {"http_status": 200}),
    Case(CUSTOMER, 503, "Authorization status is unavailable", UNAVAILABLE, "503"),
    Case(CUSTOMER, 521, "Multiple actions are running for the same customer", AGAIN, "521"),
    Case(CUSTOMER, 1000, "Customer Subscriptions could not be added", DEAD, "1000"),
    Case(CUSTOMER, 1012, "Cannot find customer for provided mobile/external-id/e-mail/id", DEAD, "1012"),
    Case(CUSTOMER, 1060, "Batch limit size exceeded", DEAD, "1060"),
    Case(CUSTOMER, 1061, "header required with X-CAP-API-ATTRIBUTION-LOOKUP", STOPS, "1061"),
    Case(CUSTOMER, 1062, "", DEAD, "1062"),
    Case(CUSTOMER, 1064, "", DEAD, "1064"),
    Case(CUSTOMER, 1101, "Invalid channel", DEAD, "1101"),
    Case(CUSTOMER, 1102, "Invalid priority", DEAD, "1102"),
    Case(CUSTOMER, 1103, "Invalid scope", DEAD, "1103"),
    Case(CUSTOMER, 1104, "Invalid identifier", DEAD, "1104"),
    Case(CUSTOMER, 1105, "Multiple scopes", DEAD, "1105"),
    Case(CUSTOMER, 1106, "Invalid status", DEAD, "1106"),
    Case(CUSTOMER, 1109, "Unable to add or update the subscription", AGAIN, "1109"),
    Case(THIRD_TRY, 1109, "Unable to add or update the subscription", DEAD, "1109"),
    Case(CUSTOMER, 1110, "Unable to fetch the subscription", AGAIN, "1110"),
    Case(THIRD_TRY, 1110, "Unable to fetch the subscription", DEAD, "1110"),
    Case(BY_MOBILE, 8011, "", DEAD, "8011"),
    Case(BY_MOBILE, 8013, "", DEAD, "8013"),
    Case(BY_MOBILE, 8015, "Customer not found for given identifiers", DEAD, "8015"),
    Case(BY_MOBILE, 8045, "", DEAD, "8045"),
    Case(BY_MOBILE, 8065, "", DEAD, "8065"),
    Case(CUSTOMER, 8109, "Customer is deleted after PII delete request", DEAD, "8109"),
    Case(CUSTOMER, 91022, "Failed to update subscription", DEAD, "91022", {"kind": "warn", "code": None}),
    Case(CUSTOMER, 200, "and the row is silently missing", AGAIN, "unconfirmed", {"kind": "drop", "code": None}),
)

RULE, FOREIGN_EVENT, NO_RULE = "Infobip subscription", "Infobip event of another channel", "Infobip unknown id"
OUT, IN, NOT_THERE = "Infobip blocklist opt-out", "Infobip blocklist opt-in", "Infobip opt-in, not blocked"
SAME_EVENT, NO_PROFILE, VERIFIED = "Infobip event that is there", "Infobip unknown profile", "Infobip with VERIFY"


def _both(called: str, code: int, becomes: str, filed: str = "", **more: Any) -> tuple[Case, ...]:
    """Return the answer in both of Infobip's error bodies."""
    return tuple(
        Case(called, code, "", becomes, filed or str(code), {"envelope": envelope, **more})
        for envelope in ("classic", "api")
    )


def _everywhere(called: str, **more: Any) -> tuple[Case, ...]:
    """Return the answers that mean the same at every call."""
    return (
        *_both(called, 401, STOPS, **more),
        *_both(called, 403, STOPS, **more),
        *_both(called, 429, SLOWER, **more),
        *_both(called, 429, SLOWER, kind="throttle", retry_after=7, **more),
        *_both(called, 500, AGAIN, **more),
    )


INFOBIP = (
    Case(RULE, None, "", APPLIED, "200"),
    Case(SAME_EVENT, None, "", UNCHANGED, "200"),
    Case(FOREIGN_EVENT, None, "is ignored without a word", DEAD, "unconfirmed"),
    Case(NO_RULE, None, "404 NOT_FOUND", DEAD, "no_such_subscription"),
    Case(NO_PROFILE, None, "404 NOT_FOUND on the write", DEAD, "no_such_profile"),
    Case(VERIFIED, 200, "and the event is left out", AGAIN, "unconfirmed", {"kind": "ignore_events", "code": None}),
    *_both(RULE, 400, DEAD, on="read"),
    *_both(RULE, 400, DEAD, on="write"),
    *_both(RULE, 404, DEAD, "no_such_subscription", on="read"),
    *_both(RULE, 404, DEAD, "no_such_subscription", on="write"),
    *_everywhere(RULE, on="read"),
    *_everywhere(RULE, on="write"),
    Case(OUT, None, "202, no body", APPLIED, "202"),
    Case(IN, None, "202, no body", APPLIED, "202"),
    Case(NOT_THERE, None, "", UNCHANGED, "200"),
    *_both(OUT, 400, DEAD),
    *_both(IN, 400, DEAD, on="read"),
    *_both(IN, 400, DEAD, on="write"),
    *_both(OUT, 404, STOPS),
    *_everywhere(OUT),
    *_everywhere(IN, on="read"),
    *_everywhere(IN, on="write"),
)

HOOK, MODES, SAME_MODE = "Gupshup pause", "Gupshup modes", "Gupshup mode that is there"
URL, TAG = "Gupshup url", "Gupshup tag"

GUPSHUP = (
    Case(HOOK, None, "", APPLIED, "200"),
    Case(MODES, None, "", APPLIED, "200"),
    Case(SAME_MODE, None, "", UNCHANGED, "200"),
    Case(HOOK, 400, "API key is not associated with partner", STOPS, "400"),
    Case(MODES, 400, "API key is not associated with partner", STOPS, "400", READS),
    Case(HOOK, 400, "Subscription Does Not Exist", DEAD, "no_such_subscription"),
    Case(MODES, 400, "Subscription Does Not Exist", DEAD, "no_such_subscription", READS),
    Case(URL, 400, "Invalid URL Passed", DEAD, "invalid_url"),
    Case(TAG, 400, "Duplicate Tag", DEAD, "duplicate_tag"),
    Case(HOOK, 400, "a text that no page has", DEAD, "400"),
    Case(HOOK, 401, "Authentication Failed", STOPS, "401"),
    Case(MODES, 401, "Authentication Failed", STOPS, "401", READS),
    Case(HOOK, 401, "Unauthorized Access", STOPS, "403"),
    Case(HOOK, 403, "Unauthorized Access", STOPS, "403"),
    Case(HOOK, 403, "Not Subscription Owner", DEAD, "not_owner"),
    Case(MODES, 403, "Not Subscription Owner", DEAD, "not_owner", READS),
    Case(HOOK, 429, "Too Many Requests", SLOWER, "429"),
    Case(MODES, 429, "Too Many Requests", SLOWER, "429", READS),
    Case(HOOK, 429, "", SLOWER, "429", {"kind": "throttle", "code": None, "retry_after": 7}),
    Case(HOOK, 500, "Unable To Create Subscription", AGAIN, "500"),
    Case(HOOK, 500, "Internal Server Error", AGAIN, "500"),
    Case(HOOK, 500, "Internal server error. Please try again later and if issue still persist", AGAIN, "500"),
    Case(MODES, 500, "Internal Server Error", AGAIN, "500", READS),
    Case(MODES, 200, "and the mode is left out", DEAD, "unconfirmed", {"kind": "ignore_events", "code": None}),
)
