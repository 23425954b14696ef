"""Credentials of calls to Capillary: a till's user name and password, or an OAuth token."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from worker.providers.contract import HeaderAuth, basic_auth
from worker.providers.endpoint import endpoint, variable

if TYPE_CHECKING:
    import httpx


def make_auth(connection: ConnectionSettings, name: str = "<NAME>") -> HeaderAuth | httpx.Auth:
    """Return the authentication of a connection's calls; where there are both kinds of credentials, the token is used.

    Basic carries the MD5 digest of the password, not the password (docs.capillarytech.com, "API client"). Raises
    ConfigurationError that names the variables to set.
    """
    if connection.oauth_key and connection.oauth_secret.get_secret_value():
        from worker.providers.capillary.token_auth import TokenAuth  # noqa: PLC0415 - it loads httpx

        return TokenAuth(endpoint(connection, name), connection, name)
    password = connection.password.get_secret_value()
    if connection.username and password:
        digest = hashlib.md5(password.encode(), usedforsecurity=False).hexdigest()
        return basic_auth(connection.username, digest)
    basic = f"{variable(name, 'USERNAME')} and {variable(name, 'PASSWORD')}"
    token = f"{variable(name, 'OAUTH_KEY')} and {variable(name, 'OAUTH_SECRET')}"
    raise ConfigurationError(f"Capillary needs credentials: set {basic}, or {token}")
