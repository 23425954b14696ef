"""Where a connection may send credentials and consent."""

from __future__ import annotations

import pytest

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from worker.providers.endpoint import endpoint


@pytest.mark.parametrize(
    "url",
    [
        "https://eu.api.example.com",
        "https://eu.api.example.com:8443/capillary",
        "http://localhost:8080",
        "http://capillary.localhost",
        "http://127.0.0.1:8080",
        "http://127.9.9.9",
        "http://[::1]:8080",
    ],
)
def test_usable_addresses(url: str) -> None:
    """Any https address will do, and plain http on this machine."""
    assert url == str(endpoint(ConnectionSettings(base_url=url)))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "eu.api.example.com",
        "ftp://example.com",
        "https://",
        "http://[broken",
        "http://eu.api.example.com",
        "http://10.0.0.7",
        "http://localhost.example.com",
        "https://till:throw-away@example.com",
        "https://example.com/?format=json",
    ],
)
def test_unusable_addresses(url: str) -> None:
    """Anything else is refused before a call, by the name of the variable and without its value."""
    with pytest.raises(ConfigurationError) as caught:
        endpoint(ConnectionSettings(base_url=url), "eu")

    assert "OPTRELAY_CONNECTIONS__EU__BASE_URL" in str(caught.value)
    assert "throw-away" not in str(caught.value)
