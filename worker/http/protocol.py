"""HTTP/1.1 on one connection: a request out, a reply in, and everything that may go wrong between them."""

from __future__ import annotations

import asyncio
import re
import select
import time
from contextlib import suppress
from http import HTTPStatus
from typing import cast

import httptools
import httpx

LONGEST_HEAD = 2**16
"""Bytes of a reply before its body; a longer head is refused."""

_FINAL = int(HTTPStatus.OK)
"""The least status of a reply that is not followed by another one (RFC 9110, 15.2)."""

_WORST_CHUNKS = 8
"""How many bytes of the wire one byte of a body may take: one byte a chunk takes six."""

_FRESH_SECONDS = 1.0
"""For so long after its beginning a connection may have unread bytes (TLS session tickets) and be good."""

_LOOKED_SECONDS = 0.001
"""For so long a socket that was silent is taken to be silent still: what a network takes longer for anyhow."""


class ReplyReader:
    """Reads one reply; llhttp calls its `on_` methods.

    `complete` is set once the reply is whole, or its body has reached `longest` bytes. `reusable` says whether the
    connection may carry another exchange. llhttp is strict about heads: small faults that a browser would read past are
    corrected first, and such a connection is not used again.
    """

    __slots__ = (
        "_corrected",
        "_head",
        "_head_only",
        "_in_body",
        "_longest",
        "_parser",
        "_received",
        "body",
        "complete",
        "headers",
        "reusable",
        "status",
        "until_end",
    )

    def __init__(self, longest: int, *, head_only: bool = False) -> None:
        self._longest = longest
        self._head_only = head_only
        self._head = b""
        self._received = 0
        self._corrected = False
        self._in_body = False
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = bytearray()
        self.complete = False
        self.reusable = False
        self.until_end = False

    def feed(self, data: bytes) -> None:
        """Take in what has come; raise httpx.DecodingError if it cannot be read as HTTP/1.x."""
        self._received += len(data)
        if self._received > LONGEST_HEAD + _WORST_CHUNKS * self._longest:
            raise httpx.DecodingError("a reply without end")
        if self._corrected and not self._in_body:
            self._feed_corrected(data)
        else:
            self._feed_strict(data)
        if not (self._in_body or self.complete) and len(self._head) > LONGEST_HEAD:
            raise httpx.DecodingError("a head without end")

    def _feed_strict(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self.complete:
                self.reusable = False
            elif self._in_body or isinstance(error, httptools.HttpParserUpgrade) or self._corrected:
                raise httpx.DecodingError("not HTTP") from error
            else:
                self._corrected = True
                self._feed_corrected(data)
        else:
            self._head += b"" if self._in_body or self.complete else data

    def _feed_corrected(self, data: bytes) -> None:
        """Go on with a head that llhttp refuses, as soon as it is whole: correct it and read it again."""
        self._head = (self._head + data).lstrip(b"\r\n")
        if not self._head[:5].upper() == b"HTTP/"[: len(self._head)]:
            raise httpx.DecodingError("not HTTP")
        while end := _BLANK_LINE.search(self._head):
            head, rest = self._head[: end.start()], self._head[end.end() :]
            self._head = b""
            if self._is_last_head(head):
                self._feed_strict(rest)
                break
            self._head = rest  # it announced another one
        self.reusable = False

    def _is_last_head(self, head: bytes) -> bool:
        self._parser = httptools.HttpResponseParser(self)
        self._feed_strict(corrected(head))
        return self._in_body

    def on_message_begin(self) -> None:
        """Begin a reply; what comes after the one that was awaited belongs to no call."""
        if self.complete:
            self.reusable = False
            raise ValueError("a second reply")
        self.headers, self._in_body = {}, False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; a trailer is dropped."""
        if not self._in_body:
            name = name.lower()
            self.headers[name] = self.headers[name] + b", " + value if name in self.headers else value

    def on_headers_complete(self) -> None:
        """Note how the body will end."""
        self.status = self._parser.get_status_code()
        self._in_body = self.status >= _FINAL
        self.until_end = b"content-length" not in self.headers and b"transfer-encoding" not in self.headers
        self.complete = self._in_body and self._head_only

    def on_body(self, part: bytes) -> None:
        """Keep a part of the body, up to the greatest length; then it is as complete as it will be."""
        if self.complete:
            return
        self.body += part[: self._longest - len(self.body)]
        self.complete = len(self.body) >= self._longest

    def on_message_complete(self) -> None:
        """End the reply, unless it only announced another one (100, 103)."""
        if self.complete or self.status < _FINAL:
            return
        self.complete = True
        self.reusable = bool(self._parser.should_keep_alive()) and not self._corrected


_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/(\d)(?:\.(\d))?[ \t]+(\d{3})(?:[ \t]+(.*))?", re.IGNORECASE)
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def corrected(head: bytes) -> bytes:
    """Return a reply's head, which comes without its blank line, as RFC 9112 wants it.

    Corrects bare line feeds, folded lines, space before a colon, control characters in values, a repeated equal
    Content-Length and a status line with odd spaces; lines that are no header are dropped.
    """
    first, *lines = [line.rstrip(b"\r") for line in head.split(b"\n")]
    found = _STATUS.fullmatch(first)
    if found is None:
        return head + b"\r\n\r\n"
    version = b"1.1" if (found[1], found[2]) == (b"1", b"1") else b"1.0"
    written = [b"HTTP/%b %b %b" % (version, found[3], _CONTROL.sub(b" ", found[4] or b""))]
    for line in _unfolded(lines):
        name, colon, value = line.partition(b":")
        name = name.strip()
        header = b"%b: %b" % (name, _CONTROL.sub(b" ", value).strip())
        is_repeated = name.lower() == b"content-length" and header in written
        if colon and _NAME.fullmatch(name) and not is_repeated:
            written.append(header)
    return b"\r\n".join(written) + b"\r\n\r\n"


def _unfolded(lines: list[bytes]) -> list[bytes]:
    whole: list[bytes] = []
    for line in lines:
        if line[:1] in (b" ", b"\t") and whole:
            whole[-1] += b" " + line.strip()
        else:
            whole.append(line)
    return whole


class HttpConnection(asyncio.Protocol):
    """An open connection, with at most one exchange at a time on it."""

    __slots__ = ("_closed", "_poll", "_reader", "_silent_until", "_transport", "_waiting", "used_at")

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting: asyncio.Future[ReplyReader] | None = None
        self._reader: ReplyReader | None = None
        self._poll = select.poll()
        self.used_at = time.monotonic()
        self._silent_until = self.used_at + _FRESH_SECONDS

    @property
    def transport(self) -> asyncio.Transport:
        """What carries the bytes."""
        if self._transport is None:
            raise AssertionError("a connection is used once it is connected")
        return self._transport

    def has_ended(self, idle_seconds: float) -> bool:
        """Say whether it was closed, or has been idle for too long."""
        return self.transport.is_closing() or self._closed.done() or time.monotonic() - self.used_at >= idle_seconds

    def is_usable(self, idle_seconds: float) -> bool:
        """Say whether a request may be sent on it: it is open, not idle for too long, and silent.

        The socket is asked, too: the server may have closed the connection in the moment since the event loop looked.
        """
        if self.has_ended(idle_seconds):
            return False
        if (now := time.monotonic()) < self._silent_until:
            return True
        self._silent_until = now + _LOOKED_SECONDS
        return not self._poll.poll(0)

    async def exchange(self, message: bytes, longest: int, *, head_only: bool = False) -> ReplyReader:
        """Send a request and return its reply.

        Raises httpx.ReadError if the connection ends before a whole reply has come, and httpx.DecodingError if what
        comes is no HTTP. `head_only` is for replies that have no body whatever their head says (HEAD, CONNECT).
        """
        reader = self._reader = ReplyReader(longest, head_only=head_only)
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            self.transport.write(message)
            await self._waiting
            reader.reusable = reader.reusable and not self.transport.get_write_buffer_size()
            return reader
        finally:
            self.used_at, self._silent_until = time.monotonic(), 0.0
            self._waiting = self._reader = None

    def upgrade(self, transport: asyncio.Transport) -> None:
        """Go on over TLS: the connection so far was a proxy's answer to CONNECT."""
        self._transport, self.used_at = transport, time.monotonic()
        self._silent_until = self.used_at + _FRESH_SECONDS

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
        self._poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Read on; what comes without having been asked for ends the connection."""
        if self._reader is None or self._waiting is None or self._waiting.done():
            self.cut()
            return
        try:
            self._reader.feed(data)
        except httpx.DecodingError as error:
            self._fail(error)
            self.cut()
        else:
            self._end_if_complete(self._reader)

    def eof_received(self) -> None:
        """Take a body that has no length for complete."""
        if self._reader is not None and self._reader.status >= _FINAL and self._reader.until_end:
            self._reader.complete = True
            self._end_if_complete(self._reader)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the exchange that nothing more will come."""
        with suppress(asyncio.InvalidStateError):
            self._closed.set_result(None)
        lost = httpx.ReadError("the connection ended before the reply")
        lost.__cause__ = error
        self._fail(lost)

    def _end_if_complete(self, reader: ReplyReader) -> None:
        if reader.complete and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(reader)

    def _fail(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
