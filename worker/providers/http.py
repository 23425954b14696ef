"""The only place that speaks HTTP: one call out, and a reply or the fact that there is none."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import cache
from typing import Self

import httpx

from consent.errors import ConfigurationError
from consent.settings import ConnectionSettings
from worker.providers.contract import Reply, Request
from worker.providers.endpoint import endpoint, is_loopback, variable
from worker.providers.no_reply import Failure, NoReply, NoToken, no_reply, why
from worker.providers.retry_after import retry_after_seconds

LONGEST_BODY = 2**20
"""Bytes of a reply that are read; the rest is cut off, and what is left of a longer one is no JSON any more."""

CONNECT_SECONDS = 5.0
"""A provider that has not let us in by then is down."""

KEPT_ALIVE_SECONDS = 30.0


class Sender:
    """What sends the calls of one connection: built inside the event loop that uses it, and closed there.

    Behind it stand clients with one connection each, at most `concurrency` of them: httpx's own pool looks through all
    its connections on each call, and made half as many calls per second with 16 of them. The client used last is used
    next, so that few connections stay open.
    """

    def __init__(self, connection: ConnectionSettings, auth: httpx.Auth, name: str = "<NAME>") -> None:
        self._url = endpoint(connection, name)
        self._headers = _headers(connection, name)
        self._auth = auth
        self._seconds = connection.timeout
        self._places = asyncio.Semaphore(connection.concurrency)
        self._clients: list[httpx.AsyncClient] = []
        self._idle: list[httpx.AsyncClient] = []
        _hush()

    async def send(self, request: Request) -> Reply | NoReply:
        """Send one call and wait for its reply, `timeout` seconds at most, all in all; nothing else is raised."""
        async with self._places:
            client = self._idle.pop() if self._idle else self._new_client()
            try:
                return await self._exchange(client, request)
            finally:
                self._idle.append(client)

    async def aclose(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(client.aclose() for client in self._clients))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _exchange(self, client: httpx.AsyncClient, request: Request) -> Reply | NoReply:
        try:
            async with asyncio.timeout(self._seconds):
                response = await _call(client, request)
        except NoToken as error:
            return Reply(401, "") if error.refused else no_reply(Failure.NO_TOKEN)
        except (httpx.HTTPError, OSError) as error:
            return why(error)
        wait = retry_after_seconds(response.headers.get("retry-after"), datetime.now(UTC))
        return Reply(response.status_code, response.text, wait)

    def _new_client(self) -> httpx.AsyncClient:
        elsewhere = not is_loopback(self._url)
        client = httpx.AsyncClient(
            base_url=self._url,
            auth=self._auth,
            headers=self._headers,
            verify=_tls(),
            trust_env=elsewhere,  # the proxy of a company's network, which must not see calls to this machine
            follow_redirects=False,
            timeout=httpx.Timeout(self._seconds, connect=min(CONNECT_SECONDS, self._seconds)),
            limits=httpx.Limits(max_connections=1, keepalive_expiry=KEPT_ALIVE_SECONDS),
            event_hooks={"response": [_cut_short]},
        )
        self._clients.append(client)
        return client


class _Cut(httpx.AsyncByteStream):
    """A reply's body, up to a length: a body without end must not fill the memory."""

    def __init__(self, body: httpx.AsyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = LONGEST_BODY
        async for part in self._body:
            yield part[:left]
            left -= len(part)
            if left <= 0:
                return

    async def aclose(self) -> None:
        await self._body.aclose()


async def _cut_short(response: httpx.Response) -> None:
    if isinstance(response.stream, httpx.AsyncByteStream):
        response.stream = _Cut(response.stream)


async def _call(client: httpx.AsyncClient, request: Request) -> httpx.Response:
    return await client.request(
        request.method,
        request.path,
        params=request.params or None,
        json=request.json,
        data=request.form,
        # Capillary answers 415 to what does not say that it is JSON, even where there is no body.
        headers={"Content-Type": "application/json"} if request.form is None else None,
    )


def _headers(connection: ConnectionSettings, name: str) -> dict[str, str]:
    if not all(
        f"{key}{value}".isascii() and f"{key}{value}".isprintable() for key, value in connection.headers.items()
    ):
        raise ConfigurationError(f"{variable(name, 'HEADERS')} must hold plain printable text only")
    # No compression: a small reply that unfolds into a huge one would get around LONGEST_BODY.
    return {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "optrelay"} | connection.headers


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _hush() -> None:
    """Keep httpx from logging each call's URL, which names a customer."""
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
