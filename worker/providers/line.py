"""One connection to a provider, kept open from call to call: a transport for httpx that does no more than that.

httpx's own transport costs two thirds of a call's processor time (see docs/performance.md). This one speaks HTTP/1.1
over asyncio's own sockets and TLS, and has llhttp read the replies. It follows no redirect, knows no proxy and decides
nothing about time but how long a connection may take: a call's deadline is its caller's, who cancels it.
"""

from __future__ import annotations

import asyncio
import ssl
import time

import httpx

from worker.providers.wire import Wire
from worker.providers.writing import target_of

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
        # Whoever gives up here must not cancel: asyncio forgets a socket that has won its race at that very moment.
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
