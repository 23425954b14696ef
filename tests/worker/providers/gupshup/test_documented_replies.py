"""Each documented status and message of Gupshup, and whose token a call carries."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from consent.outcome import Healthy, PermanentFailure, Retry, Throttled, Unauthorized, Unavailable
from tests.worker.providers.gupshup.building import CONNECTION, SEVERAL, calls, error, first, read, subscription
from worker.providers.contract import Answer, NoToken
from worker.providers.gupshup import GUPSHUP

DEAD = (Healthy, PermanentFailure, None)
COUNTS = (Healthy, Retry, True)
REFUSED = (Unauthorized, Retry, False)
UNWELL = (Unavailable, Retry, False)
THROTTLED = (Throttled, Retry, False)
WAITS = (Healthy, Retry, False)

TASK = subscription({"action": "OPTOUT"})


def fate(answer: Answer) -> tuple[type, type, bool | None]:
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
        for words in (message, message.upper()):
            assert fate(read(first(TASK), error(words), sent_with)) == expected


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
        (408, "", UNWELL),
        (415, "", REFUSED),
        (422, {}, DEAD),
        (500, {}, COUNTS),
        (500, "<html>", UNWELL),
        (503, error("busy"), UNWELL),
    ],
)
def test_status_alone(status: int, body: Any, expected: tuple[type, type, bool | None]) -> None:
    """Where no known message says more, the status decides; a success that shows nothing is looked after."""
    answer = read(first(TASK), body, status)

    if expected is WAITS:
        assert [call.purpose for call in answer.further] == ["verify"]
    else:
        assert fate(answer) == expected


def test_throttled_for_a_minute() -> None:
    """Without a Retry-After the window of a minute is waited out."""
    assert read(first(TASK), error("Too Many Requests"), 429).health == Throttled(60)
    assert read(first(TASK), error("Too Many Requests"), 429, retry_after=5).health == Throttled(5)
    assert read(first(TASK), error("Too Many Requests"), 429, retry_after=0).health == Throttled(1)


@pytest.mark.parametrize("message", ["Authentication Failed", "API key is not associated with partner"])
def test_one_of_several_tokens_is_refused(message: str) -> None:
    """The refusal of one app's token stops its bucket, which is that app's alone, until someone fixes the token."""
    answer = read(first(TASK), error(message), 401, connection=SEVERAL)

    assert fate(answer) == REFUSED


def test_no_refusal_of_the_subscription_copies_its_words() -> None:
    """What a reply says is never copied."""
    told = read(first(TASK), error("Subscription Does Not Exist for jane@example.com"), 400)

    assert fate(told) == DEAD
    assert "jane" not in repr(told)


def carried(connection: ConnectionSettings, app: str = "app-1") -> str:
    """Return what a call about an app carries for its authorization."""
    path = calls(subscription({"action": "OPTOUT"}, app_id=app), connection=CONNECTION)[0].path
    sent = httpx.Request("PUT", f"https://partner.example.com/prefix{path}")
    (request,) = GUPSHUP.auth(connection).sync_auth_flow(sent)
    return str(request.headers["Authorization"])


def test_tokens() -> None:
    """A call carries its own app's token, raw; or the common one; or either behind a prefix."""
    both = SEVERAL.model_copy(update={"token": CONNECTION.token, "token_prefix": "Bearer"})

    assert (carried(SEVERAL, "app-1"), carried(SEVERAL, "app-2")) == ("sk_one", "sk_two")
    assert carried(CONNECTION, "any:app") == "sk_throw-away"
    assert (carried(both, "app-2"), carried(both, "app-3")) == ("Bearer sk_two", "Bearer sk_throw-away")


def test_app_without_a_token() -> None:
    """An app without a token makes no call: its changes wait, uncounted, and say what to set; other apps go on."""
    tasks = [subscription({"action": "OPTOUT"}, app_id=app) for app in ("app-1", "app-3")]
    planned = GUPSHUP.plan(tasks, SEVERAL)
    waiting = planned.outcomes[1]

    assert len(planned.series) == 1
    assert isinstance(waiting, Retry)
    assert (waiting.code, waiting.counts) == ("no_token", False)
    assert "__TOKENS" in waiting.reason
    assert isinstance(planned.health, Healthy)
    assert GUPSHUP.plan(tasks[1:], SEVERAL).health == Unauthorized(waiting.reason)
    with pytest.raises(NoToken):
        carried(SEVERAL, "app-3")


def test_no_token_at_all() -> None:
    """A connection without any token is a matter of configuration, and the message names the variables."""
    with pytest.raises(ConfigurationError, match="OPTRELAY_CONNECTIONS__WA__TOKENS"):
        GUPSHUP.auth(ConnectionSettings(), "wa")
    with pytest.raises(ConfigurationError, match="plain"):
        GUPSHUP.auth(ConnectionSettings.model_validate({"token": "a\nb"}), "wa")
