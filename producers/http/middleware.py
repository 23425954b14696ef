"""What surrounds every request: limits for its connection, an id, careful headers, a log line, an answer to our faults.

The log line holds no personal data.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar

import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override

from producers.http.admission import KEY_NAME, REQUEST_ID
from producers.http.problems import Problem

_log = logging.getLogger("optrelay.http")

HEAD_SECONDS = 15.0
"""How long a client may take to send a request's line and headers."""

_CONNECTION = "optrelay.connection"
"""Where a request's state holds the connection that it came on."""

_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
_PREFIXES = ("/v1/unsubscribe/", "/v1/changes/", "/v1/imports/", "/v1/connections/")
_PATHS = (
    "/v1/changes",
    "/v1/contactable",
    "/v1/held",
    "/v1/pauses",
    "/v1/fuses/reset",
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/docs",
    "/metrics",
)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
"""Methods of RFC 9110 and 5789; a client may send 20 KB of any other text as the method, and it may hold a name."""


_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n"


class LimitedConnection(asyncio.Protocol):
    """One connection: uvicorn's own protocol, behind two limits that uvicorn has no setting for.

    uvicorn makes one for each connection, because its setting `http` takes any protocol class. A client that does not
    send the head of a request in HEAD_SECONDS is let go, and one connection too many is refused at once. Which requests
    are under way, the application tells (`with_connection`): uvicorn calls it as soon as it has a whole head.
    """

    _open: ClassVar[int] = 0  # in this process

    def __init__(self, config: uvicorn.Config, app_state: dict[str, Any], **more: Any) -> None:
        self._http = _http_protocol()(config=config, app_state=app_state | {_CONNECTION: self}, **more)
        self._most = config.limit_concurrency or sys.maxsize
        self._transport: asyncio.Transport
        self._requests = 0
        self._deadline: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        LimitedConnection._open += 1
        self._transport = transport
        self._http.connection_made(transport)
        if LimitedConnection._open >= self._most:
            transport.write(_TOO_MANY)
            transport.close()
        else:
            self._expect_head()

    @override
    def data_received(self, data: bytes) -> None:
        self._http.data_received(data)
        if not self._requests:
            self._expect_head()

    @override
    def eof_received(self) -> bool | None:
        return self._http.eof_received()

    @override
    def pause_writing(self) -> None:
        self._http.pause_writing()

    @override
    def resume_writing(self) -> None:
        self._http.resume_writing()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        LimitedConnection._open -= 1
        self._forget()
        self._http.connection_lost(exc)

    def begin_request(self) -> None:
        """Note that a whole head has come."""
        self._requests += 1
        self._forget()

    def end_request(self) -> None:
        """Note that a request was answered; uvicorn's own timeout holds until the next one begins to come."""
        self._requests -= 1

    def _expect_head(self) -> None:
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._transport.close)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


@cache
def _http_protocol() -> Callable[..., asyncio.Protocol]:
    """Return uvicorn's own protocol, chosen by name as its settings choose it."""
    config = uvicorn.Config(with_connection, http="h11", lifespan="off", log_config=None)
    config.load()
    return config.http_protocol_class


def with_connection(app: ASGIApp) -> ASGIApp:
    """Return the application, which tells each connection when its requests begin and end."""

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        connection: LimitedConnection = scope["state"].pop(_CONNECTION)
        connection.begin_request()
        try:
            await app(scope, receive, send)
        finally:
            connection.end_request()

    return counted


_TWO_LENGTHS = Problem(
    HTTPStatus.BAD_REQUEST, "two_lengths", "send either Content-Length or Transfer-Encoding, and not both", closes=True
)


class RequestMiddleware:
    """The outermost part of the application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, and write its line of the log."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[REQUEST_ID] = secrets.token_hex(8)
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers["x-request-id"] = scope[REQUEST_ID]
            await send(message)

        try:
            if _has_two_lengths(scope):
                await _TWO_LENGTHS.response()(scope, receive, send_with_headers)
            else:
                await self._app(scope, receive, send_with_headers)
        except Exception as error:  # noqa: BLE001 - the last place where anything can be said about it
            _log.error("an unexpected error: %s", places_of(error))
            if status == 0:
                await Problem.unexpected().response()(scope, receive, send_with_headers)
        finally:
            _write_access_log(scope, status, time.perf_counter() - started)


def _has_two_lengths(scope: Scope) -> bool:
    """Whether a request says in two ways where it ends: a proxy before us may take the other one for true.

    What it takes for a part of the body we would read as another person's request, so the connection has to end:
    https://www.rfc-editor.org/rfc/rfc9112#section-6.1
    """
    names = {name for name, _ in scope["headers"]}
    return b"transfer-encoding" in names and b"content-length" in names


class OwnListener:
    """Keeps some paths to the listener with a port of their own, and everything else away from it.

    Which one a request came by, the connection's own socket tells, and nothing that a client sends. HEALTH is answered
    by both.
    """

    def __init__(self, app: ASGIApp, port: int, paths: Sequence[str]) -> None:
        self._app, self._port, self._paths = app, port, tuple(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what belongs to the listener; there is nothing else at it."""
        if scope["type"] == "http" and scope["path"] not in HEALTH and self._is_own(scope) != self._is_meant(scope):
            nothing = Problem(HTTPStatus.NOT_FOUND, "unknown_path", "there is nothing at this path: see /docs")
            await nothing.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_own(self, scope: Scope) -> bool:
        return scope.get("server") is not None and scope["server"][1] == self._port

    def _is_meant(self, scope: Scope) -> bool:
        return any(scope["path"] == one or scope["path"].startswith(f"{one}/") for one in self._paths)


HEALTH = ("/healthz", "/readyz")


def _write_access_log(scope: Scope, status: int, seconds: float) -> None:
    """Write one line: no address, token or key, and no path that may hold one."""
    _log.info(
        "%s %s %d %.1f ms key=%s id=%s",
        scope["method"] if scope["method"] in _METHODS else "?",
        shown_path(scope["path"]),
        status,
        1000 * seconds,
        scope.get(KEY_NAME, "-"),
        scope[REQUEST_ID],
    )


def shown_path(path: str) -> str:
    """Return a path without what a log must not hold."""
    if path in _PATHS:
        return path
    return next((f"{prefix}…" for prefix in _PREFIXES if path.startswith(prefix)), "…")


def places_of(error: Exception) -> str:
    """Return the kind of an error and where it came from, without its message, which may name a person."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__qualname__} at " + ", ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[-6:])
