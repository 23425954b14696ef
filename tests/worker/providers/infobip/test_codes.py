"""Each documented status and code of Infobip, in both envelopes, and what becomes of a change."""

from __future__ import annotations

from typing import Any

import pytest

from consent.outcome import Applied, Healthy, PermanentFailure, Retry, Throttled, Unauthorized, Unavailable
from tests.support.providers.infobip import classic, first, newer, person, read, rule
from worker.providers.contract import Answer

DEAD = (Healthy, PermanentFailure, None)
COUNTS = (Healthy, Retry, True)
REFUSED = (Unauthorized, Retry, False)
UNAVAILABLE = (Unavailable, Retry, False)
THROTTLED = (Throttled, Retry, False)

DOCUMENTED = [
    (400, "BAD_REQUEST", "E400", DEAD, DEAD),
    (401, "UNAUTHORIZED", "E401", REFUSED, REFUSED),
    (403, "FORBIDDEN", "E403", REFUSED, REFUSED),
    (404, "NOT_FOUND", "E404", DEAD, REFUSED),
    (429, "TOO_MANY_REQUESTS", "E429", THROTTLED, THROTTLED),
    (500, "GENERAL_ERROR", "E500", COUNTS, COUNTS),
]


def outcome_of(answer: Answer) -> tuple[type, type, bool | None]:
    """Return health, outcome, and whether the answer counts as an attempt."""
    outcome = answer.outcomes[1]
    return type(answer.health), type(outcome), outcome.counts if isinstance(outcome, Retry) else None


@pytest.mark.parametrize(("status", "older", "code", "rule_outcome", "person_outcome"), DOCUMENTED)
def test_documented_error(status: int, older: str, code: str, rule_outcome: Any, person_outcome: Any) -> None:
    """An error means the same in both envelopes, under its own status as under a success."""
    for body in (classic(older), newer(code)):
        for sent_with in (status, 200):
            assert (
                outcome_of(read(first(rule({"action": "OPTIN", "events": "CLICK"})), body, sent_with)) == rule_outcome
            )
            assert outcome_of(read(first(person(1)), body, sent_with)) == person_outcome


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, "<html>", REFUSED),
        (405, "", REFUSED),
        (408, "", UNAVAILABLE),
        (409, classic("CONFLICT"), COUNTS),
        (413, classic("TOO_LARGE"), REFUSED),
        (415, "", REFUSED),
        (422, classic("UNPROCESSABLE"), DEAD),
        (500, "", UNAVAILABLE),
        (502, newer("X"), UNAVAILABLE),
        (503, "<html>", UNAVAILABLE),
        (200, classic("NEW_KIND"), COUNTS),
        (302, "", REFUSED),
    ],
)
def test_status_alone(status: int, body: Any, expected: tuple[type, type, bool | None]) -> None:
    """Where no known code says more, the status decides; a gateway's page is not held against a change.

    A gateway that finds every call too large, even one about one person, once buried 89 opt-outs in half a minute.
    """
    assert outcome_of(read(first(rule({"action": "OPTIN", "events": "CLICK"})), body, status)) == expected


@pytest.mark.parametrize(("tries", "seconds"), [(0, 2), (1, 4), (3, 16), (5, 60), (10_000, 60)])
def test_pause_grows(tries: int, seconds: int) -> None:
    """Without a Retry-After the pause doubles with each try, up to a minute."""
    answer = read(first(person(1, tries=tries)), classic("TOO_MANY_REQUESTS"), 429)

    assert answer.health == Throttled(seconds)
    assert answer.outcomes[1].after == seconds  # type: ignore[union-attr]


def test_no_such_subscription() -> None:
    """A 404 of Infobip's own says so in words."""
    answer = read(first(rule({"action": "OPTIN", "events": "CLICK"})), classic("NOT_FOUND"), 404)

    assert answer.outcomes[1] == PermanentFailure(
        "no_such_subscription", "Infobip has no such subscription for this channel"
    )


def test_missing_scope_is_explained() -> None:
    """A 403 names the scopes that a key needs."""
    health = read(first(person(1)), classic("FORBIDDEN"), 403).health

    assert isinstance(health, Unauthorized)
    assert "blocklist:manage" in health.reason


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": 17}},
        {"errors": ["x"]},
        {"error_message": "x"},
        {"success": False, "message": "not saved"},
        {"ok": False},
        {"status": "error"},
        {"status": 500},
        {"Status_Code": "429"},
    ],
)
@pytest.mark.parametrize("status", [200, 202])
def test_a_success_that_denies_itself_is_none(body: dict[str, Any], status: int) -> None:
    """A gateway answers 200 to what it did not pass on: a thousand persons count as blocked, and none of them is."""
    assert outcome_of(read(first(person(1)), body, status)) == COUNTS


@pytest.mark.parametrize("body", ["", {}, {"errors": []}, {"status": "ACCEPTED"}, {"status": 202}, {"bulkId": "7"}])
def test_any_other_success_is_one(body: Any) -> None:
    """The page says that the answer is empty; one that says more is sent again and again if it counts as an error."""
    assert read(first(person(1)), body, 202).outcomes == {1: Applied()}
