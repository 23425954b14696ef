"""Credentials of calls to Infobip: the header `Authorization: App <key>`."""

from __future__ import annotations

from collections.abc import Generator

import httpx

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from worker.providers.endpoint import variable


class _KeyAuth(httpx.Auth):
    def __init__(self, key: str) -> None:
        self._header = f"App {key}"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = self._header
        yield request


def make_auth(connection: ConnectionSettings, name: str = "<NAME>") -> httpx.Auth:
    """Return the authentication of a connection's calls; raise ConfigurationError if there is no usable key.

    The form of the header is from Infobip's page "API authentication".
    """
    key = connection.api_key.get_secret_value().strip()
    if not key:
        raise ConfigurationError(f"Infobip needs an API key: set {variable(name, 'API_KEY')}")
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError(f"{variable(name, 'API_KEY')} must hold plain printable text only")
    return _KeyAuth(key)
