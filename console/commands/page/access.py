"""Whether a request may come in: its host and origin, its session or proxy, and the secret of its forms."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from console.commands.page.users import Throttle, User, Users

PREFIX = "/ui"
"""Where the page is mounted."""

PROXY_SECRET = "x-optrelay-proxy-secret"  # noqa: S105 - the name of a header
"""The header by which an authenticating proxy proves that the name in the other header is its own."""

_IDLE_SECONDS = 3600.0
_LONGEST_SECONDS = 12 * 3600.0
_MOST_SESSIONS = 1_000


class Refused(Exception):
    """The request is answered with a page that says why; `login` offers the way in."""

    def __init__(self, status: HTTPStatus, title: str, text: str, *, wait: float = 0.0) -> None:
        super().__init__(text)
        self.status, self.title, self.text, self.wait = status, title, text, wait


@dataclass(slots=True)
class Session:
    """One browser that came in: whose it is, and what the next page is to tell."""

    user: User
    csrf: str
    began: float
    seen: float
    notice: str = ""


@dataclass(slots=True)
class Sessions:
    """The sessions of this process. Of a cookie only its hash is kept; a login always makes a new one."""

    clock: Callable[[], float] = time.monotonic
    _held: dict[bytes, Session] = field(default_factory=dict)

    def begin(self, user: User) -> tuple[str, Session]:
        """Return the cookie of a new session, and the session."""
        while len(self._held) >= _MOST_SESSIONS:
            del self._held[min(self._held, key=lambda one: self._held[one].seen)]
        cookie, now = secrets.token_urlsafe(32), self.clock()
        session = Session(user, secrets.token_urlsafe(32), now, now)
        self._held[_digest(cookie)] = session
        return cookie, session

    def find(self, cookie: str) -> Session | None:
        """Return the session of a cookie unless it has ended."""
        session, now = self._held.get(_digest(cookie)), self.clock()
        if session is None:
            return None
        if now - session.seen > _IDLE_SECONDS or now - session.began > _LONGEST_SECONDS:
            self.end(cookie)
            return None
        session.seen = now
        return session

    def end(self, cookie: str) -> None:
        """Forget a session."""
        self._held.pop(_digest(cookie), None)


class OneTimeLink:
    """The secret in the link that `optrelay ui` prints: it opens one session, and is then replaced by another."""

    def __init__(self, on_new: Callable[[str], None]) -> None:
        self._on_new = on_new
        self.secret = secrets.token_urlsafe(32)

    def take(self, shown: str) -> bool:
        """Whether this is the secret; if so it is spent, and the new one is told."""
        if not hmac.compare_digest(shown.encode(), self.secret.encode()):
            return False
        self.secret = secrets.token_urlsafe(32)
        self._on_new(self.secret)
        return True


@dataclass(slots=True)
class Access:
    """How people come in.

    `hosts` are the only ones that a request may name, None for any. With `link` the owner of the process comes in by it
    as `owner`, and no other does. `proxy_header` counts only beside `proxy_secret`. `is_secure` marks the cookie for
    HTTPS alone. `public_host` is where browsers reach the page if it is not what they name.
    """

    users: Users
    cookie: str
    hosts: frozenset[str] | None = None
    link: OneTimeLink | None = None
    owner: User | None = None
    proxy_header: str = ""
    proxy_secret: str = field(default="", repr=False)
    is_secure: bool = False
    public_host: str | None = None
    sessions: Sessions = field(default_factory=Sessions)
    throttle: Throttle = field(default_factory=Throttle)
    _login_key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def check_host(self, request: Request) -> None:
        """Raise Refused for another host (DNS rebinding), and for a change that another site asks for."""
        host = request.headers.get("host", "").lower()
        if self.hosts is not None and host not in self.hosts:
            raise Refused(HTTPStatus.FORBIDDEN, "Another address", "Open the page at the address that was printed.")
        if request.method not in {"GET", "HEAD"}:
            origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
            if (origin is not None and not self._is_ours(origin, host)) or site != "same-origin":
                raise Refused(HTTPStatus.FORBIDDEN, "Another site", _ANOTHER_SITE)

    def _is_ours(self, origin: str, host: str) -> bool:
        """Whether an origin is the host that was asked, or the public address: many proxies ask us by another name."""
        found = host_of(origin)
        return found is not None and found in (host, host_of(f"{urlsplit(origin).scheme}://{host}"), self.public_host)

    def session(self, request: Request) -> tuple[Session | None, str | None]:
        """Return the session of a request, if it has one, and the cookie to set if it is new; raises Refused."""
        found = self.sessions.find(request.cookies.get(self.cookie, ""))
        if not self.proxy_header:
            return found, None
        user = self._proxied(request)
        if user is None:  # a session that the proxy began is of no account without it
            return (found if found and self.users.proxied(found.user.name) is None else None), None
        if found is not None and found.user == user:
            return found, None
        cookie, session = self.sessions.begin(user)
        return session, cookie

    def _proxied(self, request: Request) -> User | None:
        """Return the user that the proxy names, None if it names none; raise Refused for one that is not known.

        The header of a request without the secret is of no account, wherever the request comes from.
        """
        shown = request.headers.getlist(PROXY_SECRET)
        names = request.headers.getlist(self.proxy_header)
        if len(shown) != 1 or not hmac.compare_digest(shown[0].encode(), self.proxy_secret.encode()):
            return None
        user = self.users.proxied(names[0]) if len(names) == 1 else None
        if user is None and names:
            raise Refused(HTTPStatus.FORBIDDEN, "Not a user", "OPTRELAY_UI_USERS does not name you as `…=proxy`.")
        return user

    def check_form(self, session: Session, shown: str) -> None:
        """Raise Refused unless a form shows the secret of the session that it was made for."""
        if not hmac.compare_digest(shown.encode(), session.csrf.encode()):
            text = (
                "It was made for another session, or long ago. Nothing was done: go back, load the page and try again."
            )
            raise Refused(HTTPStatus.FORBIDDEN, "This form is not valid", text)

    def begin_login(self, request: Request) -> tuple[str, str]:
        """Return a cookie for the login page and the secret of its form, which belongs to that cookie."""
        cookie = request.cookies.get(self.login_cookie) or secrets.token_urlsafe(32)
        return cookie, self._login_secret(cookie)

    def check_login_form(self, request: Request, shown: str) -> None:
        """Raise Refused unless the login form was shown to this browser."""
        cookie = request.cookies.get(self.login_cookie, "")
        if not cookie or not hmac.compare_digest(shown.encode(), self._login_secret(cookie).encode()):
            raise Refused(HTTPStatus.FORBIDDEN, "This form is not valid", "Load the page again, and log in again.")

    def log_in(self, name: str, password: str) -> User | None:
        """Return the user if name and password are right; raise Refused after too many that were not."""
        if wait := self.throttle.begin(name):
            text = f"Too many logins failed. Try again in {int(wait // 60) + 1} minutes."
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, "Too many tries", text, wait=wait)
        user = self.users.with_password(name, password)
        if user is not None:
            self.throttle.succeed(name)
        return user

    @property
    def login_cookie(self) -> str:
        """The name of the cookie that the login page sets."""
        return f"{self.cookie}_login"

    def set_cookie(self, response: Response, name: str, value: str) -> None:
        """Set a cookie that no script reads and no other site sends."""
        response.set_cookie(name, value, path=PREFIX, httponly=True, samesite="strict", secure=self.is_secure)

    def _login_secret(self, cookie: str) -> str:
        return hmac.new(self._login_key, cookie.encode(), sha256).hexdigest()


_ANOTHER_SITE = (
    "This form was sent by another site. If it was not, the proxy before this page has to pass on the header Host, or "
    "OPTRELAY_PUBLIC_URL has to be the address that your browser shows."
)
_DEFAULT_PORTS = {"https": ":443", "http": ":80"}


def host_of(origin: str) -> str | None:
    """Return the host that an origin names, with its port unless that is its scheme's own; None if it names none."""
    try:
        parts = urlsplit(origin)
    except ValueError:  # such as http://[
        return None
    return parts.netloc.lower().removesuffix(_DEFAULT_PORTS.get(parts.scheme, "")) or None


def _digest(cookie: str) -> bytes:
    return sha256(cookie.encode()).digest()
