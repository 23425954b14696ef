"""The page as an ASGI application: its places, who may open which, and what surrounds every answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qsl

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from consent.errors import LedgerError, LedgerRefused
from console.commands.page import imports, letters, overviews, persons
from console.commands.page.access import PREFIX, Access, Refused
from console.commands.page.users import Role
from console.commands.page.visit import STATIC, Mistake, Parts, Visit, render
from producers.http.admission import read_form
from producers.http.middleware import places_of
from producers.http.problems import Problem

_log = logging.getLogger("optrelay.page")
_LONGEST_FORM = 64 * 1024
_HASHED_AT_ONCE = 2  # a password takes 32 MB and a tenth of a second
_MOST_FIELDS = 100
_FORM = "application/x-www-form-urlencoded"
_UNREAD = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "What you typed is too long.",
    HTTPStatus.REQUEST_TIMEOUT: "What you typed came too slowly: try again.",
    HTTPStatus.BAD_REQUEST: "What you typed did not come whole: try again.",
}
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",  # with no-referrer, browsers send forms with `Origin: null`
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

View = Callable[[Visit], Response]


class Place(NamedTuple):
    """A path of the page, which role it needs, and the view that answers it; a POST always shows the form's secret."""

    method: str
    path: str
    view: View
    role: Role = Role.VIEWER


PLACES = (
    Place("GET", "/", overviews.show_today),
    Place("POST", "/notices/acknowledge", overviews.acknowledge, Role.OPERATOR),
    Place("GET", "/connections", overviews.show_connections),
    Place("POST", "/connections/pause", overviews.pause, Role.OPERATOR),
    Place("POST", "/connections/resume", overviews.resume, Role.OPERATOR),
    Place("POST", "/fuses/reset", overviews.reset_fuse, Role.APPROVER),
    Place("GET", "/audit", overviews.show_audit_log),
    Place("GET", "/imports", imports.show_all),
    Place("GET", "/imports/{id}", imports.show),
    Place("GET", "/imports/{id}/rejects.csv", imports.download_rejects),
    Place("POST", "/imports/{id}/approve", imports.approve, Role.APPROVER),
    Place("POST", "/imports/{id}/withdraw", imports.withdraw, Role.APPROVER),
    Place("GET", "/imports/{id}/undo", imports.plan_undo, Role.APPROVER),
    Place("POST", "/imports/{id}/undo", imports.undo, Role.APPROVER),
    Place("GET", "/dead-letters", letters.show_all),
    Place("POST", "/dead-letters/plan", letters.plan, Role.OPERATOR),
    Place("POST", "/dead-letters/replay", letters.replay, Role.OPERATOR),
    Place("POST", "/dead-letters/discard", letters.discard, Role.OPERATOR),
    Place("GET", "/dead-letters/{id}", letters.show),
    Place("POST", "/dead-letters/{id}/reveal", letters.reveal, Role.PRIVACY),
    Place("POST", "/dead-letters/{id}/correct", letters.correct, Role.OPERATOR),
    Place("GET", "/person", persons.ask),
    Place("POST", "/person", persons.search),
    Place("POST", "/person/reveal", persons.reveal, Role.PRIVACY),
)


def page_mount(parts: Parts, access: Access) -> Mount:
    """Return the page as a part of another application, at PREFIX."""
    door = _Door(parts, access)
    routes = [Route(one.path, door.endpoint(one), methods=[one.method]) for one in PLACES]
    own = [
        Route("/static/{name}", _static, methods=["GET"]),
        Route("/open", door.open, methods=["GET"]),
        Route("/login", door.login, methods=["GET", "POST"]),
        Route("/logout", door.logout, methods=["POST"]),
    ]
    handlers = {Refused: door.refused, HTTPException: door.unknown}
    return Mount(PREFIX, app=Starlette(routes=[*own, *routes], exception_handlers=handlers))  # type: ignore[arg-type]


class _Door:
    """What every request passes: host, session, role, and the secret of its form."""

    def __init__(self, parts: Parts, access: Access) -> None:
        self._parts, self._access = parts, access
        self._hashing = anyio.CapacityLimiter(_HASHED_AT_ONCE)  # its own: strangers' logins hold up no other request

    def endpoint(self, place: Place) -> Callable[[Request], object]:
        """Return what answers a place."""

        async def answer(request: Request) -> Response:
            self._access.check_host(request)
            session, cookie = self._access.session(request)
            if session is None:
                return self._no_session(request)
            form = await _form(request) if place.method == "POST" else {}
            if place.method == "POST":
                self._access.check_form(session, form.get("csrf", ""))
            if not session.user.may(place.role):
                text = f"You need the role {place.role} for this."
                raise Refused(HTTPStatus.FORBIDDEN, "Not allowed", text)
            if any("\0" in text for text in (*request.path_params.values(), *request.query_params.values())):
                raise HTTPException(HTTPStatus.NOT_FOUND)  # nothing that a link names has one
            visit = Visit(self._parts, session, request.path_params, dict(request.query_params), form)
            response = await run_in_threadpool(_answer, place.view, visit)
            if cookie is not None:
                self._access.set_cookie(response, self._access.cookie, cookie)
            return _with_headers(response)

        return answer

    def _no_session(self, request: Request) -> Response:
        if self._access.link is not None:
            text = "Open the link that `optrelay ui` prints. It works once; each time it is used, it prints a new one."
            raise Refused(HTTPStatus.UNAUTHORIZED, "Not signed in", text)
        if request.method != "GET":
            raise Refused(HTTPStatus.UNAUTHORIZED, "Not signed in", "Your session has ended. Nothing was done.")
        return _with_headers(RedirectResponse(f"{PREFIX}/login", HTTPStatus.SEE_OTHER))

    async def open(self, request: Request) -> Response:
        """Begin the session of the one who has the link, which is spent by that."""
        self._access.check_host(request)
        access = self._access
        if access.link is None or access.owner is None or not access.link.take(request.query_params.get("token", "")):
            text = "This link has been used, or is not the newest one: open the last link that `optrelay ui` printed."
            raise Refused(HTTPStatus.FORBIDDEN, "This link does not work", text)
        return self._begin(access.sessions.begin(access.owner)[0])

    async def login(self, request: Request) -> Response:
        """Show the form for name and password, and look at what it says."""
        access = self._access
        access.check_host(request)
        if access.link is not None:
            self._no_session(request)
        failed = False
        if request.method == "POST":
            form = await _form(request)
            access.check_login_form(request, form.get("csrf", ""))
            name = form.get("name", "").strip()
            password = form.get("password", "")
            user = await anyio.to_thread.run_sync(access.log_in, name, password, limiter=self._hashing)
            if user is not None:
                access.sessions.end(request.cookies.get(access.cookie, ""))
                return self._begin(access.sessions.begin(user)[0])
            failed = True
        cookie, csrf = access.begin_login(request)
        text = render("login.html", csrf=csrf, failed=failed, user=None, notice="")
        response = HTMLResponse(text, HTTPStatus.FORBIDDEN if failed else HTTPStatus.OK)
        access.set_cookie(response, access.login_cookie, cookie)
        return _with_headers(response)

    async def logout(self, request: Request) -> Response:
        """End the session."""
        self._access.check_host(request)
        session, _ = self._access.session(request)
        if session is not None:
            self._access.check_form(session, (await _form(request)).get("csrf", ""))
            self._access.sessions.end(request.cookies.get(self._access.cookie, ""))
        response = HTMLResponse(_message_page("Signed out", "Your session has ended. You can close this window."))
        response.delete_cookie(self._access.cookie, path=PREFIX, httponly=True, samesite="strict")
        return _with_headers(response)

    def _begin(self, cookie: str) -> Response:
        response = RedirectResponse(f"{PREFIX}/", HTTPStatus.SEE_OTHER)
        self._access.set_cookie(response, self._access.cookie, cookie)
        return _with_headers(response)

    async def refused(self, _request: Request, error: Refused) -> Response:
        """Say why a request was refused."""
        response = HTMLResponse(_message_page(error.title, error.text), error.status)
        if error.wait:
            response.headers["retry-after"] = str(int(error.wait) + 1)
        return _with_headers(response)

    async def unknown(self, _request: Request, error: HTTPException) -> Response:
        """Say that there is nothing at a path, or not by this method."""
        return _with_headers(
            HTMLResponse(_message_page("Not found", "There is nothing at this address."), error.status_code)
        )


def _answer(view: View, visit: Visit) -> Response:
    try:
        return view(visit)
    except Mistake as error:
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "Nothing was done", str(error)) from None
    except LedgerRefused:
        text = "The ledger's database takes no text like the one that was sent: nothing was recorded."
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "Nothing was done", text) from None
    except LedgerError as error:
        _log.warning("the ledger could not be used: %s", type(error).__name__)
        text = (
            "The ledger's database cannot be used at the moment. What you asked for may or may not have happened: look."
        )
        raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "The ledger is away", text) from None
    except Refused:
        raise
    except Exception as error:  # noqa: BLE001 - its message may name a person, so only its kind is logged
        _log.error("an unexpected error: %s", places_of(error))
        text = "This is a fault of optrelay, and what you asked for may or may not have happened: look, and report it."
        raise Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "An unexpected error", text) from None


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a form; raise Refused for another kind of body, or one that is too long or too slow."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Not a form", "Use the forms of this page.")
    try:
        body = await read_form(request, _LONGEST_FORM)
    except Problem as problem:
        raise Refused(problem.status, "Nothing was done", _UNREAD[problem.status]) from None
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError:
        raise Refused(HTTPStatus.BAD_REQUEST, "Not a form", "Use the forms of this page.") from None
    return dict(pairs)


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    kind = _TYPES[name.rpartition(".")[2]]
    response = _with_headers(Response(STATIC[name], headers={"content-type": kind}))
    response.headers["cache-control"] = "max-age=86400"  # the links to it name its version
    return response


def _with_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _message_page(title: str, text: str) -> str:
    return render("message.html", title=title, text=text, user=None, notice="")
