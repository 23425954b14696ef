"""One call to a provider, and its reply or the fact that there is none: the only way out of the worker over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, Self, cast

import httpx

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from worker.http.failures import Failure, NoReply, no_reply, retry_after_seconds, why
from worker.http.requests import AuthFlow, Writer
from worker.http.transport import PooledTransport
from worker.providers.contract import NoToken, Reply, Request
from worker.providers.endpoint import endpoint, is_header_name, variable

LONGEST_BODY = 2**20
"""Bytes of a reply that are read; the rest is cut off, and what is left of a longer one is no JSON any more."""

_CONNECT_SHARE = 0.8
"""The part of a call's time that connecting may take: if it takes longer, it is certain that nothing was sent."""


class Permit(Protocol):
    """The moments at which the things that one call consists of may be sent."""

    def is_now(self) -> bool:
        """Say whether something may be sent at once; if so, it will be."""
        ...

    async def wait(self) -> None:
        """Wait until something may be sent; what this raises ends the call."""
        ...


class Sender:
    """What sends the calls of one connection: built inside the event loop that uses it, and closed there.

    At most `concurrency` calls are under way at once. No redirect is followed, no cookie is kept.
    """

    def __init__(self, connection: ConnectionSettings, auth: httpx.Auth, name: str = "<NAME>") -> None:
        """Raise ConfigurationError, naming the variable, if a connection cannot be called as it is configured."""
        url = endpoint(connection, name)
        self._seconds = connection.timeout
        self._writer = Writer(url, _headers(connection, name))
        self._auth = auth
        self._concurrency = asyncio.Semaphore(connection.concurrency)
        self._transport = PooledTransport(url, _CONNECT_SHARE * self._seconds, LONGEST_BODY)

    async def send(self, request: Request, permit: Permit | None = None) -> Reply | NoReply:
        """Send one call and wait for its reply, `timeout` seconds at most, all in all.

        `permit` is asked before each thing that is sent: the call itself, a request for a token, the repeat after a
        401; the time that takes does not count. Nothing is raised but what `permit` raises.
        """
        async with self._concurrency:
            return await self._exchange(request, permit)

    def preconnected(self) -> AbstractAsyncContextManager[None]:
        """Have a connection open for a call before it takes its permit: then the call goes out at its moment."""
        return self._transport.preconnected()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _exchange(self, request: Request, permit: Permit | None) -> Reply | NoReply:
        try:
            async with asyncio.timeout(self._seconds) as limit:
                response = await self._authenticated(self._writer.write(request), partial(_pause, permit, limit))
        except NoToken as error:
            return Reply(401, "") if error.refused else no_reply(Failure.NO_TOKEN)
        except (httpx.HTTPError, OSError) as error:
            return why(error)
        asked = response.headers.get("retry-after")
        sent_at = response.headers.get("date")
        wait = retry_after_seconds(asked, datetime.now(UTC), sent_at) if asked else None
        body = b"".join([part async for part in cast("httpx.AsyncByteStream", response.stream)])
        return Reply(response.status_code, body.decode(errors="replace"), wait)

    async def _authenticated(self, written: httpx.Request, pause: Pause) -> httpx.Response:
        """Send a request as often as its auth asks for; return the last response, whose body is there."""
        async with aclosing(AuthFlow(self._auth, written)) as flow:
            response = None
            while (request := await flow.after(response)) is not None:
                try:
                    await self._transport.connect()
                    await pause()
                    response = await self._transport.handle_async_request(request)
                except httpx.RequestError:
                    if request is written:
                        raise
                    raise NoToken(refused=False) from None  # what broke was the request for a token: nothing was sent
                if self._auth.requires_response_body:
                    response.headers.pop("content-encoding", None)  # the body is not unpacked, whatever it says
                    await response.aread()
        if response is None:
            raise AssertionError("an auth that sends nothing")
        return response


Pause = Callable[[], Awaitable[None]]


async def _pause(permit: Permit | None, limit: asyncio.Timeout) -> None:
    """Wait for a permit, while the call's clock stands still."""
    ends = limit.when()
    if permit is None or ends is None or permit.is_now():
        return
    loop = asyncio.get_running_loop()
    left = ends - loop.time()
    limit.reschedule(None)
    await permit.wait()
    limit.reschedule(loop.time() + left)


def check_connection(connection: ConnectionSettings, auth: httpx.Auth, name: str) -> None:
    """Raise ConfigurationError, naming the variable, if a connection cannot be called as it is configured.

    Everything that a call needs is built once, so that what cannot be built is not found out by each call anew.
    """
    Sender(connection, auth, name)


def _headers(connection: ConnectionSettings, name: str) -> dict[str, str]:
    if not all(
        is_header_name(key) and value.isascii() and value.isprintable() for key, value in connection.headers.items()
    ):
        raise ConfigurationError(f"{variable(name, 'HEADERS')} must hold plain printable text only")
    # No compression: a small reply that unfolds into a huge one would get around LONGEST_BODY.
    return {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "optrelay"} | connection.headers
