"""Whose token a call to Gupshup carries."""

from __future__ import annotations

import pytest

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from consent.outcome import Healthy, Retry, Unauthorized
from tests.support.providers.gupshup import CONNECTION, SEVERAL, calls, subscription
from worker.providers.contract import HeaderAuth, NoToken
from worker.providers.gupshup import GUPSHUP


def carried(connection: ConnectionSettings, app: str = "app-1") -> str:
    """Return what a call about an app carries for its authorization."""
    auth = GUPSHUP.auth(connection)
    assert isinstance(auth, HeaderAuth)
    return auth.value(calls(subscription({"action": "OPTOUT"}, app_id=app), connection=CONNECTION)[0])


def test_tokens() -> None:
    """A call carries its own app's token, raw; or the common one; or either behind a prefix."""
    both = SEVERAL.model_copy(update={"token": CONNECTION.token, "token_prefix": "Bearer"})

    assert (carried(SEVERAL, "app-1"), carried(SEVERAL, "app-2")) == ("sk_one", "sk_two")
    assert carried(CONNECTION, "any:app") == "sk_throw-away"
    assert (carried(both, "app-2"), carried(both, "app-3")) == ("Bearer sk_two", "Bearer sk_throw-away")


def test_no_token_at_all() -> None:
    """A connection without any token is a matter of configuration, and the message names the variables."""
    with pytest.raises(ConfigurationError, match="OPTRELAY_CONNECTIONS__WA__TOKENS"):
        GUPSHUP.auth(ConnectionSettings(), "wa")
    with pytest.raises(ConfigurationError, match="plain"):
        GUPSHUP.auth(ConnectionSettings.model_validate({"token": "a\nb"}), "wa")


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
