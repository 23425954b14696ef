"""One call to a provider, and its reply or the fact that there is none: the only way out of the worker over HTTP.

A request is written for httpx with no more work than that takes: httpx parses and quotes a whole URL for each, which
costs a sixth of a call (see docs/performance.md). Here the address is parsed once, and each request names its target
beside it: the `target` extension that httpx documents.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, Self, cast
from urllib.parse import urlencode

import httpx
import orjson

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from worker.http.failures import Failure, NoReply, no_reply, retry_after_seconds, why
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
        # Some servers and gateways put a byte order mark before a text; a reader may skip it (RFC 8259, 8.1).
        text = body.removeprefix(codecs.BOM_UTF8).decode(errors="replace")
        return Reply(response.status_code, text, wait)

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


class Writer:
    """Writes the requests of one connection: same address, same headers."""

    def __init__(self, url: httpx.URL, headers: Mapping[str, str]) -> None:
        self._url = url
        self._before = url.raw_path.decode("ascii").rstrip("/")
        # Capillary answers 415 to what does not say that it is JSON, even where there is no body.
        self._json_headers = self._with_type(headers, "application/json")
        self._form_headers = self._with_type(headers, "application/x-www-form-urlencoded")

    def write(self, request: Request) -> httpx.Request:
        """Return the request to send; raise ValueError if its path is not quoted."""
        query = f"?{urlencode(request.params)}" if request.params else ""
        target = f"{self._before}{request.path}{query}"
        if not _QUOTED.fullmatch(target):
            raise ValueError("a path that is not quoted")
        body = _body(request)
        headers = (self._json_headers if request.form is None else self._form_headers).copy()
        if body or request.method not in _WITHOUT_BODY:
            headers["Content-Length"] = str(len(body))
        extensions = {"target": target.encode("ascii")}
        stream = httpx.ByteStream(body)
        written = httpx.Request(request.method, self._url, headers=headers, stream=stream, extensions=extensions)
        written.read()  # else the transport would have to wait for what is there already
        return written

    def _with_type(self, headers: Mapping[str, str], content_type: str) -> httpx.Headers:
        written = httpx.Headers(headers)
        written.setdefault("Host", self._url.netloc.decode("ascii"))
        written["Content-Type"] = content_type
        return written


_QUOTED = re.compile(r"[!-~]+")
_WITHOUT_BODY = {"GET", "HEAD", "DELETE"}


def _body(request: Request) -> bytes:
    if request.form is not None:
        return urlencode(request.form).encode("ascii")
    if request.json is None:
        return b""
    try:
        return orjson.dumps(request.json)
    except orjson.JSONEncodeError:  # a whole number beyond 64 bits, in what a provider told us to send back
        return json.dumps(request.json, ensure_ascii=False, allow_nan=False).encode("utf-8")


class AuthFlow:
    """One request's way through an `httpx.Auth`: what to send first, and what to send after each reply.

    httpx makes an asynchronous generator of every flow, which costs a call as much as writing it does; here only a flow
    that says itself that it waits is one.
    """

    def __init__(self, auth: httpx.Auth, request: httpx.Request) -> None:
        self._waits = type(auth).async_auth_flow is not httpx.Auth.async_auth_flow
        self._flow: Any = auth.async_auth_flow(request) if self._waits else auth.auth_flow(request)

    async def after(self, response: httpx.Response | None) -> httpx.Request | None:
        """Return what is to be sent after a reply, at first after none; None once nothing is."""
        try:
            sent: httpx.Request = await self._flow.asend(response) if self._waits else self._flow.send(response)
        except (StopIteration, StopAsyncIteration):
            return None
        return sent

    async def aclose(self) -> None:
        """End it, wherever it is."""
        if self._waits:
            await self._flow.aclose()
        else:
            self._flow.close()
