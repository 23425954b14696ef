"""`optrelay ui`: the page on this machine alone, for the one who started it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route

from consent.errors import ConfigurationError
from consent.files import user_name
from consent.ledger.ledger import Ledger
from consent.settings import Settings
from console.commands.page.access import PREFIX, Access, OneTimeLink, host_of
from console.commands.page.app import page_mount
from console.commands.page.users import Role, User, Users
from console.commands.page.visit import Parts
from console.commands.run.import_files import CommandContext, wake_workers
from console.ledger_access import reading_ledger
from console.ui.screen import Screen
from producers.http.middleware import RequestMiddleware
from producers.http.server import listening, serve
from worker.process import set_up_logs

LOOPBACK = "127.0.0.1"
_SHORTEST_SECRET = 16


def show_page(settings: Settings, screen: Screen, port: int, *, opens: bool) -> None:
    """Serve the page on loopback until a signal comes, and print the link; raises ConfigurationError without a ledger.

    With `opens` the browser of this machine is asked to open it.
    """
    set_up_logs("WARNING")
    with reading_ledger(settings) as ledger, listening(LOOPBACK, port) as listener:
        url = f"http://{LOOPBACK}:{listener.getsockname()[1]}{PREFIX}/open?token="
        link = OneTimeLink(lambda secret: screen.note(f"the link was used; the next one is {url}{secret}"))

        def welcome() -> None:
            screen.show(f"open {url}{link.secret}")
            screen.show("the link works once; Ctrl-C ends the page")
            screen.print_json({"url": url + link.secret})
            if opens:
                _open_browser(url + link.secret)

        serve(local_app(parts_of(settings, ledger), link, listener), listener, welcome)


def local_app(parts: Parts, link: OneTimeLink, listener: socket.socket) -> Starlette:
    """Return the application of `optrelay ui`, which answers at its own address alone."""
    port = listener.getsockname()[1]
    hosts = frozenset(f"{host}:{port}" for host in (LOOPBACK, "localhost"))
    owner = User(user_name(), frozenset(Role), proves_name=False)
    access = Access(Users(""), f"optrelay_{port}", hosts, link, owner)
    return Starlette(
        routes=[page_mount(parts, access), Route("/", _to_page, methods=["GET"])],
        middleware=[Middleware(RequestMiddleware)],
    )


def shared_access(settings: Settings) -> Access | None:
    """Return how the users of the settings come in, None if there are none; raises ConfigurationError."""
    users = Users(settings.ui_users.get_secret_value())
    header, secret = settings.ui_proxy_header.lower(), settings.ui_proxy_secret.get_secret_value()
    if header and len(secret) < _SHORTEST_SECRET:
        raise ConfigurationError(
            "OPTRELAY_UI_PROXY_HEADER counts only beside a secret that the proxy adds: set OPTRELAY_UI_PROXY_SECRET to "
            f"{_SHORTEST_SECRET} characters at least"
        )
    if users.has_proxied and not header:
        raise ConfigurationError("OPTRELAY_UI_USERS leaves users to a proxy: set OPTRELAY_UI_PROXY_HEADER")
    if not users:
        return None
    public = settings.public_url
    return Access(
        users,
        "optrelay_page",
        proxy_header=header,
        proxy_secret=secret,
        is_secure=public.startswith("https:"),
        public_host=host_of(public),
    )


def shared_page(settings: Settings) -> Callable[[Ledger], Mount] | None:
    """Return what makes the page of `optrelay serve`, None without users; raises ConfigurationError."""
    access = shared_access(settings)
    return None if access is None else lambda ledger: page_mount(parts_of(settings, ledger), access)


def parts_of(settings: Settings, ledger: Ledger) -> Parts:
    """Return what the views work with."""
    return Parts(settings, ledger, lambda ledger: _wake(settings, ledger))


def _wake(settings: Settings, ledger: Ledger) -> str:
    """Wake the workers as a command does, and return what the command would print."""
    notes = _Notes()
    wake_workers(CommandContext(settings, notes), ledger)
    return " ".join(notes.notes)


class _Notes(Screen):
    """A screen that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(as_json=True)
        self.notes: list[str] = []

    def note(self, message: object) -> None:
        self.notes.append(str(message))


async def _to_page(_request: Request) -> Response:
    return RedirectResponse(f"{PREFIX}/", HTTPStatus.SEE_OTHER)


def _open_browser(url: str, opener: Callable[[str], bool] | None = None) -> None:
    import webbrowser  # noqa: PLC0415 - it looks for browsers when it is imported

    (opener or webbrowser.open)(url)
