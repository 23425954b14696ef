"""The only place that speaks HTTP: one call out, and a reply or the fact that there is none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, Self, cast

import httpx

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from worker.http.failures import Failure, NoReply, no_reply, retry_after_seconds, why
from worker.http.requests import Signing, Writer
from worker.http.transport import CONNECT_SECONDS, Line, way_out
from worker.providers.contract import NoToken, Reply, Request
from worker.providers.endpoint import endpoint, is_header_name, variable

LONGEST_BODY = 2**20
"""Bytes of a reply that are read; the rest is cut off, and what is left of a longer one is no JSON any more."""


class Turn(Protocol):
    """The moments at which the things that one call consists of may be sent."""

    def is_now(self) -> bool:
        """Say whether something may be sent at once; if so, it will be."""
        ...

    async def wait(self) -> None:
        """Wait until something may be sent; what this raises ends the call."""
        ...


class Sender:
    """What sends the calls of one connection: built inside the event loop that uses it, and closed there.

    Behind it stand transports with one connection each, at most `concurrency` of them; the one used last is used next,
    so that few connections stay open. No redirect is followed, no cookie is kept.
    """

    def __init__(self, connection: ConnectionSettings, auth: httpx.Auth, name: str = "<NAME>") -> None:
        self._url = endpoint(connection, name)
        self._seconds = connection.timeout
        limits = httpx.Timeout(self._seconds, connect=min(CONNECT_SECONDS, self._seconds))
        self._writer = Writer(self._url, _headers(connection, name), limits)
        self._auth = auth
        self._places = asyncio.Semaphore(connection.concurrency)
        self._ways: list[httpx.AsyncBaseTransport] = []
        self._idle: list[httpx.AsyncBaseTransport] = []
        _hush()

    async def send(self, request: Request, turn: Turn | None = None) -> Reply | NoReply:
        """Send one call and wait for its reply, `timeout` seconds at most, all in all.

        `turn` is asked before each thing that is sent: the call itself, a token's mint, the repeat after a 401; the
        time that takes does not count. Nothing is raised but what `turn` raises.
        """
        async with self._places:
            way = self._idle.pop() if self._idle else self._new_way()
            try:
                return await self._exchange(way, request, turn)
            finally:
                self._idle.append(way)

    def check(self) -> None:
        """Raise ConfigurationError if there can be no way to the provider: a proxy or certificates that are no use."""
        way_out(self._url, min(CONNECT_SECONDS, self._seconds), LONGEST_BODY)

    async def warm(self) -> None:
        """Have a connection open before a slot is taken; if there can be none, the call itself will tell."""
        way = self._idle.pop() if self._idle else self._new_way()
        try:
            if isinstance(way, Line):
                with suppress(httpx.TransportError):
                    await way.open(self._url)
        finally:
            self._idle.append(way)

    async def aclose(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(way.aclose() for way in self._ways))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _exchange(self, way: httpx.AsyncBaseTransport, request: Request, turn: Turn | None) -> Reply | NoReply:
        try:
            async with asyncio.timeout(self._seconds) as limit:
                response, body = await self._signed(way, self._writer.write(request), partial(_pause, turn, limit))
        except NoToken as error:
            return Reply(401, "") if error.refused else no_reply(Failure.NO_TOKEN)
        except (httpx.HTTPError, OSError) as error:
            return why(error)
        asked = response.headers.get("retry-after")
        sent_at = response.headers.get("date")
        wait = retry_after_seconds(asked, datetime.now(UTC), sent_at) if asked else None
        return Reply(response.status_code, body.decode(errors="replace"), wait)

    async def _signed(
        self, way: httpx.AsyncBaseTransport, written: httpx.Request, pause: Pause
    ) -> tuple[httpx.Response, bytes]:
        """Send a request as often as its signing asks for; return the last response and its body."""
        async with aclosing(Signing(self._auth, written)) as signing:
            response = None
            while (request := await signing.after(response)) is not None:
                await pause()
                try:
                    response = await way.handle_async_request(request)
                except httpx.TransportError:
                    if request is written:
                        raise
                    raise NoToken(refused=False) from None  # what broke was the mint of a token: nothing was sent
                body = await _body(response)
                if self._auth.requires_response_body:
                    await _keep(response, request, body)
        if response is None:
            raise AssertionError("an auth that sends nothing")
        return response, body

    def _new_way(self) -> httpx.AsyncBaseTransport:
        way = way_out(self._url, min(CONNECT_SECONDS, self._seconds), LONGEST_BODY)
        self._ways.append(way)
        return way


Pause = Callable[[], Awaitable[None]]


async def _pause(turn: Turn | None, limit: asyncio.Timeout) -> None:
    """Wait for a turn, while the call's clock stands still."""
    ends = limit.when()
    if turn is None or ends is None or turn.is_now():
        return
    loop = asyncio.get_running_loop()
    left = ends - loop.time()
    limit.reschedule(None)
    await turn.wait()
    limit.reschedule(loop.time() + left)


async def _body(response: httpx.Response) -> bytes:
    """Read a reply's body as it came, up to a length.

    A body without end must not fill the memory, and a small one could unpack to a huge one.
    """
    stream, parts, left = cast("httpx.AsyncByteStream", response.stream), [], LONGEST_BODY
    try:
        async for part in stream:
            parts.append(part[:left])
            left -= len(part)
            if left <= 0:
                break
    finally:
        await stream.aclose()
    return b"".join(parts)


async def _keep(response: httpx.Response, request: httpx.Request, body: bytes) -> None:
    """Leave a body that was read where the auth of a call will look for it."""
    if "content-encoding" in response.headers:
        del response.headers["content-encoding"]
    response.request, response.stream = request, httpx.ByteStream(body)
    await response.aread()


def check_connection(connection: ConnectionSettings, auth: httpx.Auth, name: str) -> None:
    """Raise ConfigurationError, naming the variable, if a connection cannot be called as it is configured.

    Everything that a call needs is built once, so that what cannot be built is not found out by each call anew.
    """
    Sender(connection, auth, name).check()


def _headers(connection: ConnectionSettings, name: str) -> dict[str, str]:
    if not all(
        is_header_name(key) and value.isascii() and value.isprintable() for key, value in connection.headers.items()
    ):
        raise ConfigurationError(f"{variable(name, 'HEADERS')} must hold plain printable text only")
    # No compression: a small reply that unfolds into a huge one would get around LONGEST_BODY.
    return {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "optrelay"} | connection.headers


def _hush() -> None:
    """Keep httpx from logging each call's URL, which names a customer."""
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
