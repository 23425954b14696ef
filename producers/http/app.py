"""The application: its routes, its state, and the answers at other paths and methods."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Match

from producers.http import problems
from producers.http.admission import AppState
from producers.http.middleware import RequestMiddleware
from producers.http.openapi import describe
from producers.http.problems import Problem
from producers.http.routes import changes, contactable, docs, health, holds, pauses, queries, unsubscribe
from producers.http.routes.docs import Description

_ROUTERS = tuple(one.router for one in (changes, queries, holds, pauses, contactable, unsubscribe, health, docs))


def create_app(state: AppState, more: Sequence[BaseRoute] = (), within: Sequence[Middleware] = ()) -> FastAPI:
    """Return the application with this state, and with more routes and middleware; its lifespan runs the writer."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        state.batch_writer.start()
        yield
        state.batch_writer.stop()

    app = FastAPI(
        routes=[*_routes(), *more],
        openapi_url=None,  # what it tells depends on who asks
        redirect_slashes=False,  # a redirect would carry the token of a link along
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},  # it tells whole paths
        middleware=[Middleware(RequestMiddleware), *within],
        exception_handlers={Problem: problems.answer, HTTPException: _not_found, RequestValidationError: _invalid},
        lifespan=lifespan,
    )
    app.state.app_state = state
    app.state.description = Description(
        known=lambda: describe(app.routes, state.schema, state.body_limit),
        public=lambda: describe(app.routes, state.public_schema, state.body_limit),
    )
    app.state.readiness_at, app.state.readiness = float("-inf"), {}
    app.state.readiness_lock = asyncio.Lock()
    return app


def _routes() -> list[BaseRoute]:
    """Return every route; HEAD is answered where GET is, which FastAPI does not do of itself."""
    routes = [route for router in _ROUTERS for route in router.routes]
    gets = [route for route in routes if isinstance(route, APIRoute) and "GET" in (route.methods or ())]
    return [*routes, *(APIRoute(one.path, one.endpoint, methods=["HEAD"], include_in_schema=False) for one in gets)]


async def _not_found(request: Request, error: HTTPException) -> Response:
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        answered = Problem(
            HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "this path has other methods: see /docs"
        ).response()
        answered.headers["allow"] = ", ".join(sorted(_methods_of(request)))
        return answered
    return Problem(HTTPStatus.NOT_FOUND, "unknown_path", "there is nothing at this path: see /docs").response()


def _methods_of(request: Request) -> set[str]:
    """Return the methods of a path: each has a route of its own."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is Match.PARTIAL]
    return {method for route in routes for method in getattr(route, "methods", ())}


async def _invalid(_request: Request, _error: Exception) -> Response:
    """Answer a request with a parameter of another type; FastAPI's own answer would repeat what was sent."""
    return Problem(HTTPStatus.BAD_REQUEST, "bad_parameter", "a parameter has another form: see /docs").response()
