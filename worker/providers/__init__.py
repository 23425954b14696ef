"""One module for each provider, and the list of them."""

from __future__ import annotations

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from worker.providers.capillary import CAPILLARY
from worker.providers.contract import Provider
from worker.providers.gupshup import GUPSHUP
from worker.providers.infobip import INFOBIP

PROVIDERS: dict[str, Provider] = {"capillary": CAPILLARY, "gupshup": GUPSHUP, "infobip": INFOBIP}


def provider_of(connection: ConnectionSettings) -> Provider:
    """Return the provider of a connection; raise ConfigurationError that names the ones there are."""
    try:
        return PROVIDERS[connection.provider.lower()]
    except KeyError:
        known = ", ".join(sorted(PROVIDERS))
        raise ConfigurationError(f"there is no provider {connection.provider!r} (known: {known})") from None
