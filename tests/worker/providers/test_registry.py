"""The list of providers."""

from __future__ import annotations

import pytest

from consent.connection import ConnectionSettings, Rate
from consent.errors import ConfigurationError
from worker.providers import PROVIDERS, provider_of


def test_known_provider() -> None:
    """A connection's provider is found by its name, in any case."""
    provider = provider_of(ConnectionSettings(provider="Capillary"))

    assert ("capillary", Rate(100, 60)) == (provider.name, provider.rate_limit("", ConnectionSettings()).rate)


def test_unknown_provider() -> None:
    """An unknown provider is a matter of configuration, and the message names the ones there are."""
    with pytest.raises(ConfigurationError, match=r"'pigeon' \(known: capillary, gupshup, infobip\)"):
        provider_of(ConnectionSettings(provider="pigeon"))


@pytest.mark.parametrize(("name", "provider"), PROVIDERS.items())
def test_names(name: str, provider: object) -> None:
    """Each provider is listed under its own name."""
    assert name == provider.name  # type: ignore[attr-defined]
