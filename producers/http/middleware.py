"""What surrounds every request: an id, careful headers, a log line without personal data, an answer to our faults."""

from __future__ import annotations

import logging
import secrets
import time
import traceback
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producers.http.admission import KEY_NAME, REQUEST_ID
from producers.http.problems import Problem

_log = logging.getLogger("optrelay.http")

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
