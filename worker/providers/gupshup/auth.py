"""Credentials of calls to Gupshup: the token of the app that the call is about."""

from __future__ import annotations

from urllib.parse import unquote

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from worker.providers.contract import HeaderAuth, NoToken, Request
from worker.providers.endpoint import variable

_BEFORE_APP = "/partner/app/"


def token_of(app: str, connection: ConnectionSettings) -> str:
    """Return an app's token, or "" if there is none."""
    own = connection.tokens.get(app)
    return (own or connection.token).get_secret_value().strip()


def make_auth(connection: ConnectionSettings, name: str = "<NAME>") -> HeaderAuth:
    """Return the authentication of a connection's calls; raise ConfigurationError if no app has a token.

    The app's token stands in `Authorization`, by default without a word before it
    (the sample of partner-docs.gupshup.io/reference/put_partner-app-appid-subscription-subscriptionid).
    """
    tokens = [one.get_secret_value().strip() for one in (*connection.tokens.values(), connection.token)]
    if not any(tokens):
        wanted = f"{variable(name, 'TOKENS')} (JSON, app id to token) or {variable(name, 'TOKEN')}"
        raise ConfigurationError(f"Gupshup needs a token for each app: set {wanted}")
    if not all(one.isascii() and one.isprintable() for one in (*tokens, connection.token_prefix)):
        wrong = f"{variable(name, 'TOKENS')}, {variable(name, 'TOKEN')} and {variable(name, 'TOKEN_PREFIX')}"
        raise ConfigurationError(f"{wrong} must hold plain printable text only")
    prefix = f"{connection.token_prefix.strip()} ".lstrip()

    def header(request: Request) -> str:
        app = unquote(request.path.partition(_BEFORE_APP)[2].partition("/")[0])
        if not (token := token_of(app, connection)):
            raise NoToken(refused=True)
        return prefix + token

    return HeaderAuth(header)
