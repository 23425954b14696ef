"""The doctor's look at the connections: provider, address, credentials (only whether they are there), and limit."""

from __future__ import annotations

from collections.abc import Iterator

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from consent.settings import Settings
from console.finding import Finding
from console.pace import limit_of
from worker.http.client import check_connection
from worker.providers import provider_of
from worker.providers.endpoint import endpoint

_LEASE_SPARE_SECONDS = 3.0


def look(settings: Settings) -> Iterator[Finding]:
    """Look at every connection as it is configured; nobody is called."""
    if not settings.connections:
        remedy = "set OPTRELAY_CONNECTIONS__CAPILLARY__BASE_URL, …__USERNAME, …__PASSWORD; `optrelay demo` needs none"
        yield Finding("connections", ok=False, words="none is configured", remedy=remedy)
    for name, connection in sorted(settings.connections.items()):
        try:
            yield _connection(settings, name, connection)
        except ConfigurationError as error:
            yield Finding(f"connection {name}", ok=False, words=str(error))


def _connection(settings: Settings, name: str, connection: ConnectionSettings) -> Finding:
    provider = provider_of(connection)
    url = endpoint(connection, name)
    check_connection(connection, provider.auth(connection, name), name)
    needed = connection.timeout + settings.reservation_seconds + _LEASE_SPARE_SECONDS
    if settings.lease_seconds < needed:
        remedy = f"raise OPTRELAY_LEASE_SECONDS to {needed:g} or lower the connection's timeout"
        return Finding(f"connection {name}", ok=False, words="the lease is shorter than a call", remedy=remedy)
    words = f"{provider.name} at {url.scheme}://{url.netloc.decode()}, credentials are set, {limit_of(connection).rate}"
    return Finding(f"connection {name}", ok=True, words=words)
