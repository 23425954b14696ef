"""Where a connection's provider listens, checked before anything is sent there."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError

if TYPE_CHECKING:
    import httpx

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)


def variable(name: str, setting: str) -> str:
    """Return the environment variable that holds a setting of the connection with this name."""
    return f"OPTRELAY_CONNECTIONS__{name.upper()}__{setting}"


def endpoint(connection: ConnectionSettings, name: str = "<NAME>") -> httpx.URL:
    """Return a connection's base URL; raise ConfigurationError if credentials and consent may not be sent there.

    Plain http is for this machine only: anywhere else it would show the password and the customer to the network, so
    it takes a setting of its own (`allow_plain_http`), which is for a sandbox on a private network.
    """
    where = variable(name, "BASE_URL")
    if not connection.base_url:
        raise ConfigurationError(
            f"set {where} to the address that the provider gives your account, like https://api.example.com"
        )
    url = _parsed(connection.base_url, where)
    if url.userinfo or url.query or url.fragment:
        raise ConfigurationError(f"{where} must hold no user name, query or fragment: credentials have own settings")
    if url.scheme != "https" and not (is_loopback(url) or connection.allow_plain_http):
        raise ConfigurationError(f"{where} must start with https://; plain http is only for this machine (localhost)")
    return url


def is_header_name(text: str) -> bool:
    """Say whether a text can be the name of a header (a token: RFC 9110, 5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


def target_of(request: httpx.Request) -> bytes:
    """Return the path and query that a request is for: `target` names them where they were written beforehand."""
    target = request.extensions.get("target")
    return target if isinstance(target, bytes) else request.url.raw_path


def is_loopback(url: httpx.URL) -> bool:
    """Say whether a URL leads to this machine."""
    if url.host == "localhost" or url.host.endswith(".localhost"):
        return True
    try:
        return ip_address(url.host).is_loopback
    except ValueError:
        return False


def _parsed(text: str, where: str) -> httpx.URL:
    import httpx  # noqa: PLC0415 - what shows a provider's limits loads this module too, and need not wait for it

    try:
        url = httpx.URL(text.strip())
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigurationError(f"{where} is not a web address like https://eu.api.capillarytech.com")
    return url
