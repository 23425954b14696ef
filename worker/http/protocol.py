"""The bytes of one connection: a request out, a reply in, and everything that may go wrong between them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import cast

import httptools
import httpx

LONGEST_HEAD = 2**16
"""Bytes of a reply before its body: more is no reply."""


class WireReply:
    """What has come of one reply; llhttp calls its `on_` methods."""

    __slots__ = (
        "_head_bytes",
        "_in_body",
        "_longest",
        "_parser",
        "body",
        "complete",
        "headers",
        "reusable",
        "status",
        "whole_at_end",
    )

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._head_bytes = 0
        self._in_body = False
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.complete = False
        self.reusable = False
        self.whole_at_end = False

    def feed(self, data: bytes) -> None:
        """Take in what has come; raise httpx.RemoteProtocolError if it is no HTTP."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                raise httpx.RemoteProtocolError("not HTTP") from error
            self.reusable = False
        self._head_bytes += 0 if self._in_body or self.complete else len(data)
        if self._head_bytes > LONGEST_HEAD:
            raise httpx.RemoteProtocolError("a head without end")

    def on_message_begin(self) -> None:
        """Begin a reply; whatever comes after the one that was awaited is not ours."""
        if self.complete:
            self.reusable = False
            raise ValueError("a second reply")
        self.headers, self._in_body = [], False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; what comes behind the body is none."""
        if not self._in_body:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Note how the body will end."""
        self.status = self._parser.get_status_code()
        self._in_body = self.status >= HTTPStatus.OK
        named = {name.lower() for name, _ in self.headers}
        self.whole_at_end = not named & {b"content-length", b"transfer-encoding"}

    def on_body(self, part: bytes) -> None:
        """Keep a part of the body, up to the greatest length; then it is as complete as it will be."""
        self.body += part[: self._longest - len(self.body)]
        if len(self.body) >= self._longest:
            self.complete = True

    def on_message_complete(self) -> None:
        """End the reply, unless it was only word that one will come (100, 103)."""
        if self.complete or self.status < HTTPStatus.OK:
            return
        self.complete = True
        self.reusable = bool(self._parser.should_keep_alive())


class Wire(asyncio.Protocol):
    """An open connection."""

    __slots__ = ("_closed", "_reply", "_transport", "_waiting")

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting: asyncio.Future[WireReply] | None = None
        self._reply: WireReply | None = None

    @property
    def is_open(self) -> bool:
        """Whether a request may be sent."""
        return self._transport is not None and not self._transport.is_closing() and not self._closed.done()

    async def exchange(self, message: bytes, longest: int) -> WireReply:
        """Send a request and return its reply; raise an httpx.TransportError if there is none."""
        if self._transport is None:
            raise AssertionError("a wire is used once it is connected")
        self._reply = WireReply(longest)
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            self._transport.write(message)
            reply = await self._waiting
            reply.reusable = reply.reusable and not self._transport.get_write_buffer_size()
            return reply
        finally:
            self._waiting = self._reply = None

    def cut(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    async def aclose(self) -> None:
        """End the connection and wait until it is gone."""
        self.cut()
        await asyncio.wait([self._closed])  # waiting may be given up without harm to what is waited for

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read on; what comes without having been asked for ends the connection."""
        if self._reply is None or self._waiting is None or self._waiting.done():
            self.cut()
            return
        try:
            self._reply.feed(data)
        except httpx.RemoteProtocolError as error:
            self._fail(error)
            self.cut()
        else:
            self._end_if_complete(self._reply)

    def eof_received(self) -> None:
        """Take a body that has no length for complete."""
        if self._reply is not None and self._reply.status >= HTTPStatus.OK and self._reply.whole_at_end:
            self._reply.complete = True
            self._end_if_complete(self._reply)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell waiting threads that nothing more will come."""
        with suppress(asyncio.InvalidStateError):
            self._closed.set_result(None)
        lost = httpx.RemoteProtocolError("the server disconnected") if error is None else httpx.ReadError("cut")
        lost.__cause__ = error
        self._fail(lost)

    def _end_if_complete(self, reply: WireReply) -> None:
        if reply.complete and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(reply)

    def _fail(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)


_NOTHING = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"


async def warm_up() -> None:
    """Make one exchange with ourselves, over a socket of this machine that no one else knows."""
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, httpx.AsyncClient(trust_env=False) as client:
        await client.post(f"http://127.0.0.1:{port}/", json={})


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(_NOTHING)
    await writer.drain()
    writer.close()
