"""How calls to Capillary are signed: a till's user name and password, or a token that is minted and kept."""

from __future__ import annotations

import hashlib

import httpx

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from worker.providers.capillary.oauth import TokenAuth
from worker.providers.endpoint import endpoint, variable


def auth(connection: ConnectionSettings, name: str = "<NAME>") -> httpx.Auth:
    """Return what signs a connection's calls; where there are both kinds of credentials, the token is used.

    Basic carries the MD5 digest of the password, not the password (docs.capillarytech.com, API client).
    """
    if connection.oauth_key and connection.oauth_secret.get_secret_value():
        return TokenAuth(endpoint(connection, name), connection, name)
    password = connection.password.get_secret_value()
    if connection.username and password:
        digest = hashlib.md5(password.encode(), usedforsecurity=False).hexdigest()
        return httpx.BasicAuth(connection.username, digest)
    basic = f"{variable(name, 'USERNAME')} and {variable(name, 'PASSWORD')}"
    token = f"{variable(name, 'OAUTH_KEY')} and {variable(name, 'OAUTH_SECRET')}"
    raise ConfigurationError(f"Capillary needs credentials: set {basic}, or {token}")
