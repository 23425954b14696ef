"""The ways out to one provider: a transport for each call that is under way, and a proxy where there is one."""

from __future__ import annotations

import os
import ssl
from functools import cache
from urllib.request import getproxies, proxy_bypass

import httpx

from consent.errors import ConfigurationError
from worker.providers.endpoint import is_loopback
from worker.providers.line import KEPT_ALIVE_SECONDS, Line
from worker.providers.writing import target_of

CONNECT_SECONDS = 5.0
"""A provider that has not let us in by then is down."""


def way_out(url: httpx.URL, seconds: float, longest_body: int) -> httpx.AsyncBaseTransport:
    """Return a transport of one connection; through the proxy of a company's network, if the environment names one.

    A proxy must not see calls to this machine. `seconds` is the most that connecting may take. Raises
    ConfigurationError if the proxy, or the certificates that the environment names, cannot be used.
    """
    connect, proxy = min(CONNECT_SECONDS, seconds), _proxy(url)
    if proxy is None:
        return Line(_tls() if url.scheme == "https" else None, connect, longest_body)
    limits = httpx.Limits(max_connections=1, keepalive_expiry=KEPT_ALIVE_SECONDS)
    try:
        return _Proxied(verify=_tls(), trust_env=False, proxy=proxy, limits=limits)
    except (ImportError, ValueError) as error:
        raise _useless_proxy(url) from error


class _Proxied(httpx.AsyncHTTPTransport):
    """A way through a proxy; httpcore would have what it says to the proxy itself go to a request's target, too."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(raw_path=target_of(request))
        request.extensions = {name: value for name, value in request.extensions.items() if name != "target"}
        return await super().handle_async_request(request)


def _proxy(url: httpx.URL) -> httpx.Proxy | None:
    if is_loopback(url) or proxy_bypass(url.host):
        return None
    named = getproxies()
    address = named.get(url.scheme) or named.get("all")
    try:
        return httpx.Proxy(address if "://" in address else f"http://{address}") if address else None
    except (httpx.InvalidURL, ValueError) as error:
        raise _useless_proxy(url) from error


def _useless_proxy(url: httpx.URL) -> ConfigurationError:
    """Say which variable is wrong, and no part of it: it may hold a password."""
    names = [f"{url.scheme}_proxy", "all_proxy"]
    spelled = [variable for name in names for variable in (name, name.upper()) if os.environ.get(variable)]
    where = spelled[0] if spelled else "the proxy of this machine's settings"
    return ConfigurationError(f"{where} is no proxy that can be used: write http://host:port (SOCKS is not supported)")


@cache
def _tls() -> ssl.SSLContext:
    """Return what verifies a provider's certificate and name."""
    try:
        context = httpx.create_ssl_context()
    except OSError as error:  # a missing file, a folder, a file without a certificate (ssl.SSLError is one, too)
        named = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)]
        where = " and ".join(named) or "this machine's certificates"
        raise ConfigurationError(f"{where} cannot be used: it must lead to certificates in PEM form") from error
    context.set_alpn_protocols(["http/1.1"])
    return context
