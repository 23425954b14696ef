"""The ways out to one provider: a transport for each call that is under way, and a proxy where there is one."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from functools import cache
from urllib.request import getproxies, proxy_bypass

import httpx

from consent.errors import ConfigurationError
from worker.http.protocol import Wire
from worker.providers.endpoint import is_loopback, target_of

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


KEPT_ALIVE_SECONDS = 30.0


class Line(httpx.AsyncBaseTransport):
    """At most one open connection, and one exchange at a time on it.

    What is raised says what the provider can have seen: `httpx.ConnectError` and `httpx.ConnectTimeout` mean that
    nothing was sent; any other `httpx.TransportError` leaves that open. An exchange that does not come to its end,
    cancelled or not, ends the connection, so no reply is ever taken for that of another call. A body stays as it came:
    a compressed one could grow without bound.
    """

    def __init__(self, tls: ssl.SSLContext | None, connect_seconds: float, longest_body: int) -> None:
        self._tls = tls
        self._connect_seconds = connect_seconds
        self._longest = longest_body
        self._wire: Wire | None = None
        self._used_at = 0.0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Make one exchange; of a body longer than `longest_body` bytes only the beginning is returned."""
        message = _head(request) + await request.aread()
        wire = await self._connected(request.url)
        try:
            reply = await wire.exchange(message, self._longest)
        except BaseException:
            wire.cut()
            raise
        if not reply.reusable:
            wire.cut()
        self._used_at = time.monotonic()
        return httpx.Response(
            reply.status, headers=reply.headers, stream=httpx.ByteStream(bytes(reply.body)), request=request
        )

    async def open(self, url: httpx.URL) -> None:
        """Have a connection before something is to be sent; raise httpx.ConnectError or ConnectTimeout."""
        await self._connected(url)

    async def aclose(self) -> None:
        """End the connection."""
        if self._wire is not None:
            await self._wire.aclose()

    async def _connected(self, url: httpx.URL) -> Wire:
        wire = self._wire
        if wire is not None and wire.is_open and time.monotonic() - self._used_at < KEPT_ALIVE_SECONDS:
            return wire
        if wire is not None:
            await wire.aclose()
        self._wire = await self._connect(url)
        self._used_at = time.monotonic()
        return self._wire

    async def _connect(self, url: httpx.URL) -> Wire:
        # Giving up here must not cancel: asyncio forgets a socket that has won its race at that very moment.
        reaching = asyncio.ensure_future(self._reach(url))
        try:
            return await asyncio.shield(reaching)
        except asyncio.CancelledError:
            reaching.add_done_callback(_let_go)
            raise
        except TimeoutError as error:
            raise httpx.ConnectTimeout("no connection in time") from error
        except OSError as error:
            raise httpx.ConnectError("no connection") from error

    async def _reach(self, url: httpx.URL) -> Wire:
        secure = url.scheme == "https"
        host = url.raw_host.decode("ascii").strip("[]")
        async with asyncio.timeout(self._connect_seconds):
            _, wire = await asyncio.get_running_loop().create_connection(
                Wire,
                host,
                url.port or (443 if secure else 80),
                ssl=self._tls if secure else None,
                server_hostname=host if secure else None,
                happy_eyeballs_delay=0.25,
            )
        return wire


def _let_go(reaching: asyncio.Future[Wire]) -> None:
    if not reaching.cancelled() and reaching.exception() is None:
        reaching.result().cut()


def _head(request: httpx.Request) -> bytes:
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), target_of(request))]
    lines += [b"%b: %b" % header for header in request.headers.raw]
    head = b"\r\n".join(lines)
    breaks = len(lines) - 1
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head:
        raise httpx.LocalProtocolError("a header that would end before its end")
    return head + b"\r\n\r\n"
