"""Credentials of calls to Infobip: the header `Authorization: App <key>`."""

from __future__ import annotations

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from worker.providers.contract import HeaderAuth
from worker.providers.endpoint import variable


def make_auth(connection: ConnectionSettings, name: str = "<NAME>") -> HeaderAuth:
    """Return the authentication of a connection's calls; raise ConfigurationError if there is no usable key.

    The form of the header is from Infobip's page "API authentication".
    """
    key = connection.api_key.get_secret_value().strip()
    if not key:
        raise ConfigurationError(f"Infobip needs an API key: set {variable(name, 'API_KEY')}")
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError(f"{variable(name, 'API_KEY')} must hold plain printable text only")
    header = f"App {key}"
    return HeaderAuth(lambda _: header)
