"""One call to a provider, and its reply or the fact that there is none: the only way out of the worker over HTTP.

A request is written as bytes, with a head of which most was written beforehand: httpx parses and quotes a whole URL for
each, and builds objects that cost a fifth of a call (see docs/performance.md). Only an auth that has to ask for a token
gets requests and responses of httpx.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import re
from collections.abc import Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Protocol, Self
from urllib.parse import urlencode

import httpx
import orjson

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from worker.http.failures import Failure, NoReply, no_reply, retry_after_seconds, why
from worker.http.protocol import ReplyReader
from worker.http.transport import PooledTransport, Preconnected, response_of
from worker.providers.contract import HeaderAuth, NoToken, Reply, Request
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

    At most `concurrency` calls are under way at once. No redirect is followed, no cookie is kept. `preconnected` is the
    context of a call that waits for its permit: a connection is open for it, so that it goes out at its moment.
    """

    def __init__(self, connection: ConnectionSettings, auth: HeaderAuth | httpx.Auth, name: str = "<NAME>") -> None:
        """Raise ConfigurationError, naming the variable, if a connection cannot be called as it is configured."""
        url = endpoint(connection, name)
        self._seconds = connection.timeout
        self._auth = auth
        self._concurrency = asyncio.Semaphore(connection.concurrency)
        self._transport = PooledTransport(url, _CONNECT_SHARE * self._seconds, LONGEST_BODY)
        self.preconnected = Preconnected(self._transport)
        self._writer = Writer(url, _headers(connection, name), self._transport)

    async def send(self, request: Request, permit: Permit | None = None) -> Reply | NoReply:
        """Send one call and wait for its reply, `timeout` seconds at most, all in all.

        `permit` is asked before each thing that is sent: the call itself, a request for a token, the repeat after a
        401; the time that takes does not count. Nothing is raised but what `permit` raises.
        """
        async with self._concurrency:
            try:
                async with asyncio.timeout(self._seconds) as limit:
                    if isinstance(self._auth, HeaderAuth):
                        message = self._writer.message(request, self._auth.value(request))
                        reply = await self._exchange(message, permit, limit, head_only=request.method == "HEAD")
                    else:
                        reply = await self._authenticated(request, self._auth, permit, limit)
            except NoToken as error:
                return Reply(401, "") if error.refused else no_reply(Failure.NO_TOKEN)
            except (httpx.HTTPError, OSError) as error:
                return why(error)
        asked, sent_at = reply.headers.get(b"retry-after"), reply.headers.get(b"date")
        wait = None if asked is None else retry_after_seconds(_text(asked), datetime.now(UTC), _text(sent_at))
        # Some servers and gateways put a byte order mark before a text; a reader may skip it (RFC 8259, 8.1).
        text = reply.body.removeprefix(codecs.BOM_UTF8).decode(errors="replace")
        return Reply(reply.status, text, wait)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _exchange(
        self, message: bytes, permit: Permit | None, limit: asyncio.Timeout, *, head_only: bool
    ) -> ReplyReader:
        """Send a message at its moment, on a connection that was open before; the limit stands still until then."""
        await self._transport.connect()
        ends = limit.when()
        if permit is not None and ends is not None and not permit.is_now():
            loop = asyncio.get_running_loop()
            left = ends - loop.time()
            limit.reschedule(None)
            await permit.wait()
            limit.reschedule(loop.time() + left)
        return await self._transport.exchange(message, head_only=head_only)

    async def _authenticated(
        self, request: Request, auth: httpx.Auth, permit: Permit | None, limit: asyncio.Timeout
    ) -> ReplyReader:
        """Send what an auth asks for: a request for a token, the call with it, perhaps once more; return the last."""
        written = self._writer.request(request)
        async with aclosing(auth.async_auth_flow(written)) as flow:
            sending = await anext(flow)
            while True:
                try:
                    message, head_only = (
                        self._transport.message(sending, await sending.aread()),
                        sending.method == "HEAD",
                    )
                    reply = await self._exchange(message, permit, limit, head_only=head_only)
                except httpx.RequestError:
                    if sending is written:
                        raise
                    raise NoToken(refused=False) from None  # what broke was the request for a token: nothing was sent
                try:
                    sending = await flow.asend(response_of(reply, sending))
                except StopAsyncIteration:
                    return reply


def check_connection(connection: ConnectionSettings, auth: HeaderAuth | httpx.Auth, name: str) -> None:
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

    def __init__(self, url: httpx.URL, headers: Mapping[str, str], transport: PooledTransport) -> None:
        self._url = url
        self._before = url.raw_path.decode("ascii").rstrip("/")
        self._transport = transport
        # Capillary answers 415 to what does not say that it is JSON, even where there is no body.
        self._json_headers = self._with_type(headers, "application/json")
        self._form_headers = self._with_type(headers, "application/x-www-form-urlencoded")
        self._heads: dict[tuple[str, bool, str], bytes] = {}

    def message(self, request: Request, credentials: str) -> bytes:
        """Return the bytes to send, with credentials in its `Authorization`; raise ValueError for a bad path."""
        kind = request.method, request.form is not None, credentials
        if (head := self._heads.get(kind)) is None:
            if not is_header_name(request.method):
                raise ValueError("a method that is none")
            headers = self._headers_of(request)
            headers["Authorization"] = credentials
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            head = self._heads[kind] = self._transport.head(headers.raw)
        target, body = self._transport.prefix + self._target(request), _body(request)
        length = b"Content-Length: %d\r\n" % len(body) if body or request.method not in _WITHOUT_BODY else b""
        return b"%b %b HTTP/1.1\r\n%b%b\r\n%b" % (request.method.encode("ascii"), target, head, length, body)

    def request(self, request: Request) -> httpx.Request:
        """Return the request for an auth that asks for more than one; raise ValueError if its path is not quoted."""
        target, body, headers = self._target(request), _body(request), self._headers_of(request)
        if body or request.method not in _WITHOUT_BODY:
            headers["Content-Length"] = str(len(body))
        stream, extensions = httpx.ByteStream(body), {"target": target}
        written = httpx.Request(request.method, self._url, headers=headers, stream=stream, extensions=extensions)
        written.read()  # else the transport would have to wait for what is there already
        return written

    def _target(self, request: Request) -> bytes:
        query = f"?{urlencode(request.params)}" if request.params else ""
        target = f"{self._before}{request.path}{query}"
        if not _QUOTED.fullmatch(target):
            raise ValueError("a path that is not quoted")
        return target.encode("ascii")

    def _headers_of(self, request: Request) -> httpx.Headers:
        return (self._json_headers if request.form is None else self._form_headers).copy()

    def _with_type(self, headers: Mapping[str, str], content_type: str) -> httpx.Headers:
        written = httpx.Headers(headers)
        written.setdefault("Host", self._url.netloc.decode("ascii"))
        written["Content-Type"] = content_type
        written.pop("Content-Length", None)  # each request says its own
        return written


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")


_QUOTED = re.compile(r"[!-~]+")
_MOST_HEADS = 1000
"""Heads that are kept: there is one for each kind of credentials, such as those of an app."""

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
