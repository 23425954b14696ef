"""Each documented status and message of Gupshup."""

from __future__ import annotations

from typing import Any

import pytest

from consent.outcome import Healthy, PermanentFailure, Retry, Throttled, Unauthorized, Unavailable
from tests.support.providers.gupshup import SEVERAL, error, first, read, subscription
from worker.providers.contract import Answer

DEAD = (Healthy, PermanentFailure, None)
COUNTS = (Healthy, Retry, True)
REFUSED = (Unauthorized, Retry, False)
UNAVAILABLE = (Unavailable, Retry, False)
THROTTLED = (Throttled, Retry, False)
WAITS = (Healthy, Retry, False)

TASK = subscription({"action": "OPTOUT"})


def outcome_of(answer: Answer) -> tuple[type, type, bool | None]:
    """Return health, outcome, and whether the answer counts as an attempt."""
    outcome = answer.outcomes[1]
    return type(answer.health), type(outcome), outcome.counts if isinstance(outcome, Retry) else None


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (400, "API key is not associated with partner", REFUSED),
        (400, "Subscription Does Not Exist", DEAD),
        (400, "Invalid URL Passed", DEAD),
        (401, "Authentication Failed", REFUSED),
        (401, "Unauthorized Access", REFUSED),
        (403, "Unauthorized Access", REFUSED),
        (403, "Not Subscription Owner", DEAD),
        (429, "Too Many Requests", THROTTLED),
        (500, "Unable To Create Subscription", COUNTS),
        (500, "Internal server error. Please try again later and if issue still persist ...", COUNTS),
        (500, "Internal Server Error", COUNTS),
    ],
)
def test_documented_message(status: int, message: str, expected: tuple[type, type, bool | None]) -> None:
    """A message decides, in any case, under its own status as under a success."""
    for sent_with in (status, 200):
        for text in (message, message.upper()):
            assert outcome_of(read(first(TASK), error(text), sent_with)) == expected


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, error("A new kind of error"), COUNTS),
        (200, {"status": "success"}, WAITS),
        (400, error("A new kind of error"), DEAD),
        (401, "", REFUSED),
        (403, error("A new kind of error"), REFUSED),
        (404, "", REFUSED),
        (405, "", REFUSED),
        (408, "", UNAVAILABLE),
        (415, "", REFUSED),
        (422, {}, DEAD),
        (500, {}, COUNTS),
        (500, "<html>", UNAVAILABLE),
        (503, error("busy"), UNAVAILABLE),
    ],
)
def test_status_alone(status: int, body: Any, expected: tuple[type, type, bool | None]) -> None:
    """Where no known message says more, the status decides; a success that shows nothing is looked after."""
    answer = read(first(TASK), body, status)

    if expected is WAITS:
        assert [call.purpose for call in answer.further] == ["verify"]
    else:
        assert outcome_of(answer) == expected


def test_throttled_for_a_minute() -> None:
    """Without a Retry-After the window of a minute is waited out."""
    assert read(first(TASK), error("Too Many Requests"), 429).health == Throttled(60)
    assert read(first(TASK), error("Too Many Requests"), 429, retry_after=5).health == Throttled(5)
    assert read(first(TASK), error("Too Many Requests"), 429, retry_after=0).health == Throttled(1)


@pytest.mark.parametrize("message", ["Authentication Failed", "API key is not associated with partner"])
def test_one_of_several_tokens_is_refused(message: str) -> None:
    """The refusal of one app's token stops its bucket, which is that app's alone, until the token is fixed."""
    answer = read(first(TASK), error(message), 401, connection=SEVERAL)

    assert outcome_of(answer) == REFUSED


def test_no_refusal_of_the_subscription_copies_its_words() -> None:
    """What a reply says is never copied."""
    result = read(first(TASK), error("Subscription Does Not Exist for jane@example.com"), 400)

    assert outcome_of(result) == DEAD
    assert "jane" not in repr(result)
