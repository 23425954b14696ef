"""The connections to one provider, kept open from call to call, and how they are made: directly or through a proxy.

A transport for httpx that does no more than that. httpx's own costs two thirds of a call's processor time, and what
other clients lack stands in docs/performance.md: one must be able to connect before a call has its permit.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from http import HTTPStatus

import httpx

from consent.errors import ConfigurationError
from worker.http.protocol import HttpConnection, ReplyReader
from worker.http.proxies import PORTS, authorization, proxy_for
from worker.providers.endpoint import target_of

CONNECT_SECONDS = 5.0
"""A provider that has not let us in by then is down."""

KEPT_ALIVE_SECONDS = 30.0
"""How long an idle connection is used again, at most; servers that close it sooner are learned from."""

_SHORTEST_IDLE = 1.0
_TIMEOUT = re.compile(rb"timeout\s*=\s*(\d{1,6})", re.IGNORECASE)
"""For how many seconds a server says that it keeps an idle connection: `Keep-Alive: timeout=5`."""

_PROXY_REFUSES = 407
_LONGEST_PROXY_REPLY = 2**16


class PooledTransport(httpx.AsyncBaseTransport):
    """Connections to one origin; the one used last is used next, so that few stay open.

    What is raised says what the provider can have seen: `httpx.ConnectError`, `httpx.ConnectTimeout` and
    `httpx.ProxyError` mean that nothing was sent; any other `httpx.RequestError` leaves that open. An exchange that
    does not come to its end, cancelled or not, ends its connection, so no reply is ever taken for that of another call.
    Nothing is sent twice, and no redirect is followed. A body stays as it came: a compressed one could grow without
    bound. A call's deadline is its caller's, who cancels it.
    """

    def __init__(self, url: httpx.URL, connect_seconds: float, longest_body: int) -> None:
        """Raise ConfigurationError if the proxy, or the certificates that the environment names, cannot be used."""
        self._host = url.raw_host.decode("ascii").strip("[]")
        self._port = url.port or PORTS[url.scheme]
        self._tls = tls_context() if url.scheme == "https" else None
        self._proxy = proxy_for(url)
        self._proxy_tls = tls_context() if self._proxy and self._proxy.url.scheme == "https" else None
        self._proxy_headers = authorization(self._proxy) if self._proxy else []
        self.prefix = b"http://" + url.netloc if self._proxy and self._tls is None else b""
        self._connect_seconds = min(CONNECT_SECONDS, connect_seconds)
        self._longest = longest_body
        self._idle: deque[HttpConnection] = deque()
        self._busy: set[HttpConnection] = set()
        self._expected = 0
        self._idle_seconds = KEPT_ALIVE_SECONDS

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Make one exchange for a client of httpx; of a body longer than `longest_body` only the beginning is there."""
        message = self.message(request, await request.aread())
        return response_of(await self.exchange(message, head_only=request.method == "HEAD"), request)

    async def exchange(self, message: bytes, *, head_only: bool = False) -> ReplyReader:
        """Send a whole request and return its reply, a body longer than `longest_body` bytes cut off there."""
        connection = self._usable() or await self._connect()
        self._busy.add(connection)
        idle = time.monotonic() - connection.used_at
        try:
            reply = await connection.exchange(message, self._longest, head_only=head_only)
        except BaseException as error:
            connection.cut()
            if isinstance(error, httpx.ReadError):
                self._learn(idle)
            raise
        finally:
            self._busy.discard(connection)
        self._keep(connection, reply)
        if reply.status == _PROXY_REFUSES and self._proxy and self._tls is None:
            raise httpx.ProxyError("the proxy wants other credentials")
        return reply

    async def connect(self) -> None:
        """Have an open connection at hand: then what the caller sends next, without waiting, goes out at once."""
        idle = self._idle
        while idle and not idle[-1].is_usable(self._idle_seconds):
            idle.pop().cut()
        if not idle:
            idle.append(await self._connect())

    async def expect(self) -> None:
        """Have a connection open for one more call that waits for its permit; if there can be none, it tells itself."""
        self._expected += 1
        try:
            while self._idle and self._idle[0].has_ended(self._idle_seconds):  # the one that was used longest ago
                self._idle.popleft().cut()
            if len(self._idle) + len(self._busy) < self._expected:
                with suppress(httpx.TransportError):
                    self._idle.append(await self._connect())
        except BaseException:
            self._expected -= 1
            raise

    def expect_no_more(self) -> None:
        """Take it that one of the calls that were expected waits no more."""
        self._expected -= 1

    def head(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Return lines of a head, with those for the proxy where it reads them; raises httpx.LocalProtocolError."""
        return _written([], [*headers, *(self._proxy_headers if self.prefix else ())])

    def message(self, request: httpx.Request, body: bytes) -> bytes:
        """Return the bytes of a request of httpx."""
        line = b"%b %b HTTP/1.1" % (request.method.encode("ascii"), self.prefix + target_of(request))
        return _written([line], []) + self.head(request.headers.raw) + b"\r\n" + body

    async def aclose(self) -> None:
        """End all connections."""
        await asyncio.gather(*(connection.aclose() for connection in [*self._idle, *self._busy]))
        self._idle.clear()

    def _usable(self) -> HttpConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable(self._idle_seconds):
                return connection
            connection.cut()
        return None

    def _keep(self, connection: HttpConnection, reply: ReplyReader) -> None:
        if not reply.reusable:
            connection.cut()
            return
        self._idle.append(connection)
        if (found := _TIMEOUT.search(reply.headers.get(b"keep-alive", b""))) is not None:
            idle = float(found[1])
            self._idle_seconds = min(self._idle_seconds, max(idle - _SHORTEST_IDLE, idle / 2))

    def _learn(self, idle: float) -> None:
        """Use idle connections for half as long as this one, which a server or a firewall had forgotten."""
        if idle > _SHORTEST_IDLE:
            self._idle_seconds = max(_SHORTEST_IDLE, min(self._idle_seconds, idle / 2))

    async def _connect(self) -> HttpConnection:
        # Cancelling must not reach the connecting: asyncio forgets a socket that has won its race at that very moment.
        reaching = asyncio.ensure_future(self._reach())
        try:
            return await asyncio.shield(reaching)
        except asyncio.CancelledError:
            reaching.add_done_callback(_let_go)
            raise
        except TimeoutError as error:
            raise httpx.ConnectTimeout("no connection in time") from error
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError("no connection") from error

    async def _reach(self) -> HttpConnection:
        async with asyncio.timeout(self._connect_seconds):
            if self._proxy is None:
                return await _open(self._host, self._port, self._tls)
            proxy = self._proxy.url
            connection = await _open(proxy.host, proxy.port or PORTS[proxy.scheme], self._proxy_tls)
            if self._tls is not None:
                try:
                    await self._tunnel(connection, self._tls)
                except BaseException:
                    connection.cut()
                    raise
            return connection

    async def _tunnel(self, connection: HttpConnection, tls: ssl.SSLContext) -> None:
        """Have a proxy pass the connection on, and speak TLS with the provider through it."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        where = f"{host}:{self._port}".encode("ascii")
        message = _written([b"CONNECT %b HTTP/1.1" % where, b"Host: " + where], self._proxy_headers) + b"\r\n"
        try:
            reply = await connection.exchange(message, _LONGEST_PROXY_REPLY, head_only=True)
        except httpx.RequestError as error:
            raise httpx.ConnectError("the proxy gave no answer") from error
        if reply.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            raise httpx.ProxyError("the proxy wants other credentials")
        if reply.status // 100 != HTTPStatus.OK // 100:
            raise httpx.ConnectError(f"the proxy answered {reply.status}")
        loop = asyncio.get_running_loop()
        secured = await loop.start_tls(connection.transport, connection, tls, server_hostname=self._host)
        if secured is None:
            raise ConnectionResetError
        connection.upgrade(secured)


class Preconnected:
    """A context: a call waits for its permit, and a connection is open for it."""

    __slots__ = ("_pool",)

    def __init__(self, pool: PooledTransport) -> None:
        self._pool = pool

    async def __aenter__(self) -> None:
        await self._pool.expect()

    async def __aexit__(self, *_: object) -> None:
        self._pool.expect_no_more()


async def _open(host: str, port: int, tls: ssl.SSLContext | None) -> HttpConnection:
    """Connect to whichever of a host's addresses answers first, with TLS if there is a context for it."""
    loop, name = asyncio.get_running_loop(), host if tls else None
    _, connection = await loop.create_connection(
        HttpConnection, host, port, ssl=tls, server_hostname=name, happy_eyeballs_delay=0.25
    )
    return connection


def _let_go(reaching: asyncio.Future[HttpConnection]) -> None:
    if not reaching.cancelled() and reaching.exception() is None:
        reaching.result().cut()


def _written(lines: list[bytes], headers: list[tuple[bytes, bytes]]) -> bytes:
    lines = [*lines, *(b"%b: %b" % header for header in headers)]
    head = b"\r\n".join(lines)
    breaks = max(0, len(lines) - 1)
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head:
        raise httpx.LocalProtocolError("a header that would end before its end")
    return head + b"\r\n" if lines else b""


def response_of(reply: ReplyReader, request: httpx.Request) -> httpx.Response:
    """Return a reply as httpx has it; a body stays as it came, whatever its Content-Encoding says."""
    headers = [(name, value) for name, value in reply.headers.items() if name != b"content-encoding"]
    return httpx.Response(reply.status, headers=headers, content=bytes(reply.body), request=request)


@cache
def tls_context() -> ssl.SSLContext:
    """Return what verifies a provider's certificate and name."""
    try:
        context = httpx.create_ssl_context()
    except OSError as error:  # a missing file, a folder, a file without a certificate (ssl.SSLError is one, too)
        named = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)]
        where = " and ".join(named) or "this machine's certificates"
        raise ConfigurationError(f"{where} cannot be used: it must lead to certificates in PEM form") from error
    context.set_alpn_protocols(["http/1.1"])
    return context
