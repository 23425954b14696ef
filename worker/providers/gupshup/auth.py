"""Credentials of calls to Gupshup: the token of the app that the call is about."""

from __future__ import annotations

from collections.abc import Generator
from urllib.parse import unquote

import httpx

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from worker.providers.contract import NoToken
from worker.providers.endpoint import target_of, variable

_BEFORE_APP = "/partner/app/"


def token_of(app: str, connection: ConnectionSettings) -> str:
    """Return an app's token, or "" if there is none."""
    own = connection.tokens.get(app)
    return (own or connection.token).get_secret_value().strip()


class _TokenAuth(httpx.Auth):
    """Puts the app's token into `Authorization`, by default without a word before it.

    (The sample of partner-docs.gupshup.io/reference/put_partner-app-appid-subscription-subscriptionid.)
    """

    def __init__(self, connection: ConnectionSettings) -> None:
        self._connection = connection
        self._prefix = f"{connection.token_prefix.strip()} ".lstrip()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        path = target_of(request).decode("ascii")
        app = unquote(path.partition(_BEFORE_APP)[2].partition("/")[0])
        token = token_of(app, self._connection)
        if not token:
            raise NoToken(refused=True)
        request.headers["Authorization"] = self._prefix + token
        yield request


def make_auth(connection: ConnectionSettings, name: str = "<NAME>") -> httpx.Auth:
    """Return the authentication of a connection's calls; raise ConfigurationError if no app has a token."""
    tokens = [one.get_secret_value().strip() for one in (*connection.tokens.values(), connection.token)]
    if not any(tokens):
        wanted = f"{variable(name, 'TOKENS')} (JSON, app id to token) or {variable(name, 'TOKEN')}"
        raise ConfigurationError(f"Gupshup needs a token for each app: set {wanted}")
    if not all(one.isascii() and one.isprintable() for one in (*tokens, connection.token_prefix)):
        wrong = f"{variable(name, 'TOKENS')}, {variable(name, 'TOKEN')} and {variable(name, 'TOKEN_PREFIX')}"
        raise ConfigurationError(f"{wrong} must hold plain printable text only")
    return _TokenAuth(connection)
