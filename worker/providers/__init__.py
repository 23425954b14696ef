"""The providers: a folder for each, the same files in each folder, and the registry below.

What they share: `contract` (what passes in and out), `row_fields` (types of columns), `classify` (what a reply means),
`batching` (which changes share a call), `endpoint` (the checked address).
"""

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
        how = "OPTRELAY_CONNECTIONS__<NAME>__PROVIDER names it; without that, the connection's own name does"
        raise ConfigurationError(f"there is no provider {connection.provider!r} (known: {known}): {how}") from None
