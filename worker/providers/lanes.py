"""The ways out to one provider: a transport for each call that is under way, and a proxy where there is one."""

from __future__ import annotations

import ssl
from functools import cache
from urllib.request import getproxies, proxy_bypass

import httpx

from worker.providers.endpoint import is_loopback
from worker.providers.line import KEPT_ALIVE_SECONDS, Line
from worker.providers.writing import target_of

CONNECT_SECONDS = 5.0
"""A provider that has not let us in by then is down."""


def way_out(url: httpx.URL, seconds: float, longest_body: int) -> httpx.AsyncBaseTransport:
    """Return a transport of one connection; through the proxy of a company's network, if the environment names one.

    A proxy must not see calls to this machine. `seconds` is the most that connecting may take.
    """
    connect = min(CONNECT_SECONDS, seconds)
    if proxy := _proxy(url):
        limits = httpx.Limits(max_connections=1, keepalive_expiry=KEPT_ALIVE_SECONDS)
        return _Proxied(verify=_tls(), trust_env=False, proxy=proxy, limits=limits)
    return Line(_tls(), connect, longest_body)


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
    return httpx.Proxy(address if "://" in address else f"http://{address}") if address else None


@cache
def _tls() -> ssl.SSLContext:
    """Return what verifies a provider's certificate and name."""
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
