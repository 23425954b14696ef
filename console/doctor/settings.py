"""The doctor's look at this machine and the settings: Python, packages, where settings were read, every connection.

No provider is called, and of credentials only whether they are set is said.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import version

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from consent.files import path_text
from consent.settings import TOML_FILE, Settings, environment_names, toml_file
from console.doctor.finding import Finding
from console.settings_check import unknown_settings
from console.ui.limits import limit_of
from worker.http.client import check_connection
from worker.providers import provider_of
from worker.providers.endpoint import endpoint

_OLDEST = (3, 11)
_LEASE_SPARE_SECONDS = 3.0
_PACKAGES = ("optrelay", "celery", "kombu", "redis", "sqlalchemy", "httpx", "pydantic")


def look_at_machine(settings: Settings) -> Iterator[Finding]:  # noqa: ARG001 - every check is asked in the same way
    """Look at Python and the packages."""
    python = platform.python_version()
    remedy = "" if sys.version_info >= _OLDEST else "optrelay needs Python 3.11 or newer"
    yield Finding("python", ok=not remedy, message=f"{python} on {platform.system()}", remedy=remedy)
    yield Finding("packages", ok=True, message=", ".join(f"{name} {version(name)}" for name in _PACKAGES))


def settings_unknown() -> Iterator[Finding]:
    """Name what was set and means nothing, and what each may have been meant to be."""
    for name, remedy in unknown_settings():
        yield Finding("settings", ok=None, message=f"{name} is no setting and is ignored", remedy=remedy)


def settings_found() -> Finding:
    """Say where settings were found: names only, never a value."""
    names = environment_names()
    places = [f"{len(names)} OPTRELAY_ variables"] if names else []
    places += [path_text(toml_file().resolve())] if toml_file().exists() else []
    if not places:
        return Finding("settings", ok=None, message=f"no OPTRELAY_ variable and no {TOML_FILE} here: all are defaults")
    return Finding("settings", ok=True, message=f"read from {' and '.join(places)}")


def look_at_connections(settings: Settings) -> Iterator[Finding]:
    """Look at every connection as it is configured; no provider is called."""
    if not settings.connections:
        remedy = "set OPTRELAY_CONNECTIONS__CAPILLARY__BASE_URL, …__USERNAME, …__PASSWORD, or start `optrelay sandbox`"
        yield Finding("connections", ok=False, message="none is configured", remedy=remedy)
    for name, connection in sorted(settings.connections.items()):
        try:
            yield _connection(settings, name, connection)
        except ConfigurationError as error:
            yield Finding(f"connection {name}", ok=False, message=str(error))


def _connection(settings: Settings, name: str, connection: ConnectionSettings) -> Finding:
    provider = provider_of(connection)
    url = endpoint(connection, name)
    check_connection(connection, provider.auth(connection, name), name)
    needed = connection.timeout + settings.reservation_seconds + _LEASE_SPARE_SECONDS
    if settings.lease_seconds < needed:
        remedy = f"raise OPTRELAY_LEASE_SECONDS to {needed:g} or lower the connection's timeout"
        return Finding(f"connection {name}", ok=False, message="the lease is shorter than a call", remedy=remedy)
    message = (
        f"{provider.name} at {url.scheme}://{url.netloc.decode()}, credentials are set, {limit_of(connection).rate}"
    )
    return Finding(f"connection {name}", ok=True, message=message)
