"""The application: which path leads where."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from producers.http import problem
from producers.http.changes import post_changes
from producers.http.docs_page import POLICY, docs_page
from producers.http.guard import Guard
from producers.http.health import healthz, readyz
from producers.http.looking import get_change, get_import
from producers.http.openapi import description
from producers.http.parts import Parts
from producers.http.problem import Problem
from producers.http.unsubscribe import confirm, unsubscribe


def create_app(parts: Parts) -> Starlette:
    """Return the application around these parts; its lifespan runs the ledger's writer."""
    described = description(parts.schema, parts.body_limit)
    for_anybody = description(parts.public_schema, parts.body_limit)
    html = docs_page(for_anybody)

    async def openapi(request: Request) -> Response:
        """Tell the names of our connections to whoever has a key, and to nobody else."""
        return JSONResponse(described if parts.keys.sender(request.headers) is not None else for_anybody)

    async def docs(_request: Request) -> Response:
        return HTMLResponse(html, headers={"content-security-policy": POLICY})

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        parts.gatherer.start()
        yield
        parts.gatherer.stop()

    routes = [
        Route("/v1/changes", post_changes, methods=["POST"]),
        Route("/v1/changes/{id}", get_change, methods=["GET"]),
        Route("/v1/imports/{id}", get_import, methods=["GET"]),
        Route("/v1/unsubscribe/{token}", _link, methods=["GET", "POST"]),
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/openapi.json", openapi, methods=["GET"]),
        Route("/docs", docs, methods=["GET"]),
    ]
    handlers = {Problem: problem.answer, HTTPException: _no_such_thing}
    app = Starlette(routes=routes, middleware=[Middleware(Guard)], exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False  # a redirect would carry the token of a link along
    app.state.parts = parts
    app.state.readiness_at, app.state.readiness = float("-inf"), {}
    app.state.readiness_lock = asyncio.Lock()
    return app


async def _link(request: Request) -> Response:
    return await (unsubscribe if request.method == "POST" else confirm)(request)


def _no_such_thing(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        found = Problem(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "this path has other methods: see /docs")
    else:
        found = Problem(HTTPStatus.NOT_FOUND, "unknown_path", "there is nothing at this path: see /docs")
    answered = found.response()
    answered.headers.update(error.headers or {})
    return answered
