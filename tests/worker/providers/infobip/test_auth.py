"""The key that a call to Infobip carries."""

from __future__ import annotations

import pytest

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from tests.support.providers.infobip import CONNECTION
from worker.providers.contract import HeaderAuth, Request
from worker.providers.infobip import INFOBIP


def test_key() -> None:
    """Calls carry the key as `App`."""
    auth = INFOBIP.auth(CONNECTION)

    assert isinstance(auth, HeaderAuth)
    assert auth.value(Request("GET", "/", (), ())) == "App throw-away"


@pytest.mark.parametrize(("key", "message"), [("", "API_KEY"), ("ключ", "plain"), ("a\nb", "plain")])
def test_missing_key(key: str, message: str) -> None:
    """A key that is missing or unusable is a matter of configuration, and the message names the variable."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        INFOBIP.auth(ConnectionSettings.model_validate({"api_key": key}), "eu")
    assert "OPTRELAY_CONNECTIONS__EU__API_KEY" in str(caught.value)
