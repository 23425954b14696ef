"""What surrounds every request: an id, careful headers, one log line that names no person, and no error's own words."""

from __future__ import annotations

import logging
import secrets
import time
import traceback
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producers.http.parts import OWNER, REQUEST_ID
from producers.http.problem import Problem

_log = logging.getLogger("optrelay.http")

_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
_PLACES = ("/v1/unsubscribe/", "/v1/changes/", "/v1/imports/")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
"""Methods of RFC 9110 and 5789; a client may send 20 KB of any other word, and anything may stand in it."""

_PATHS = ("/v1/changes", "/healthz", "/readyz", "/openapi.json", "/docs")


class Guard:
    """The outermost part of the application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[REQUEST_ID] = secrets.token_hex(8)
        watched = _Watched(scope, send)
        try:
            await self._app(scope, receive, watched)
        except Exception as error:  # noqa: BLE001 - the last place where anything can be said about it
            _log.error("an unexpected error: %s", _places_of(error))
            if watched.status == 0:
                await Problem.unexpected().response()(scope, receive, watched)
        finally:
            watched.tell()


class _Watched:
    """The way back of one answer: it adds the headers and remembers the status."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._started = time.perf_counter()
        self.status = 0

    async def __call__(self, message: Message) -> None:
        """Pass a part of the answer on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers["x-request-id"] = self._scope[REQUEST_ID]
        await self._send(message)

    def tell(self) -> None:
        """Write the access log's line: neither address nor token nor key, and no path that might hold one."""
        _log.info(
            "%s %s %d %.1f ms key=%s id=%s",
            self._scope["method"] if self._scope["method"] in _METHODS else "?",
            shown_path(self._scope["path"]),
            self.status,
            1000 * (time.perf_counter() - self._started),
            self._scope.get(OWNER, "-"),
            self._scope[REQUEST_ID],
        )


def shown_path(path: str) -> str:
    """Return a path without what a log must not hold."""
    if path in _PATHS:
        return path
    return next((f"{place}…" for place in _PLACES if path.startswith(place)), "…")


def _places_of(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__qualname__} at " + ", ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[-6:])
