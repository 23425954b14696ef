"""The operations page on a real server, and a browser without JavaScript that fills in its forms."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from unittest.mock import patch

import httpx
from starlette.applications import Starlette

from consent.ledger.ledger import Ledger
from consent.settings import Settings
from console.commands.page import users
from console.commands.page.access import Access, OneTimeLink
from console.commands.page.app import page_mount
from console.commands.page.server import local_app, shared_access
from console.commands.page.visit import Parts
from producers.http.server import Server, configuration, listening

PASSWORD = "a password for the tests"
HASH = "scrypt:16384:8:1:cdxD6phJQ5eF4PHeOfQA0Q:wjbDpn4tyRu37X4XP_G4fa1eLpePvyKgNl4l0Jqp9OY"  # of half the usual cost
EVERYONE = ",".join(
    f"{name}[{roles}]={HASH}"
    for name, roles in (
        ("vera", "viewer"),
        ("otto", "operator"),
        ("anna", "approver"),
        ("priya", "privacy"),
    )
)
"""One user for each role."""


class _Forms(HTMLParser):
    """Collects the forms of a page with the fields that they would send as they stand."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append((attributes.get("action", ""), {}))
        is_off = attributes.get("type") in {"radio", "checkbox"} and "checked" not in attributes
        if tag in {"input", "button"} and attributes.get("name") and self.forms and not is_off:
            self.forms[-1][1][attributes["name"]] = attributes.get("value", "")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@dataclass
class Browser:
    """A browser without JavaScript: cookies, links, forms."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    client: httpx.Client = field(default_factory=lambda: httpx.Client(follow_redirects=True, timeout=30))

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Open a place of the page."""
        return self.client.get(f"{self.url}/ui{path}", headers=self.headers | _named(headers))

    def post(self, path: str, data: dict[str, str], **headers: str) -> httpx.Response:
        """Send a form as it is given."""
        all_headers = {"origin": self.url} | self.headers | _named(headers)
        return self.client.post(f"{self.url}/ui{path}", data=data, headers=all_headers)

    def submit(self, page: httpx.Response, action: str, **filled: str) -> httpx.Response:
        """Fill in the form of a page that goes to `action`, and send it."""
        place, found = next(one for one in forms(page) if one[0].endswith(action))
        return self.post(place.removeprefix("/ui"), found | filled)

    def log_in(self, name: str, password: str = PASSWORD) -> httpx.Response:
        """Sign in."""
        return self.submit(self.get("/login"), "/login", name=name, password=password)

    def csrf(self) -> str:
        """The secret of this session's forms."""
        return next(fields["csrf"] for place, fields in forms(self.get("/")) if place.endswith("/logout"))


def forms(page: httpx.Response) -> list[tuple[str, dict[str, str]]]:
    """The forms of a page: where each goes, and what it sends as it stands."""
    parser = _Forms()
    parser.feed(page.text)
    return parser.forms


def text_of(page: httpx.Response) -> str:
    """What a page says, without its tags, with single blanks."""
    parser = _Forms()
    parser.feed(page.text)
    return " ".join(" ".join(parser.text).split())


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass
class PageServer:
    """The page on a port of this machine."""

    url: str
    access: Access | None = None
    link: OneTimeLink | None = None
    woken: list[str] = field(default_factory=list)

    @contextmanager
    def browser(self, name: str = "") -> Iterator[Browser]:
        """A browser that has signed in: by the link of `optrelay ui`, or with a name."""
        browser = Browser(self.url)
        with browser.client:
            if name:
                assert browser.log_in(name).status_code == 200
            elif self.link is not None:
                assert browser.client.get(f"{self.url}/ui/open?token={self.link.secret}").status_code == 200
            yield browser


@contextmanager
def page(ledger: Ledger, **more: Any) -> Iterator[PageServer]:
    """Serve the page: that of `optrelay ui`, or with `ui_users` that of `optrelay serve`."""
    settings = Settings(**more)
    served = PageServer("")
    parts = Parts(settings, ledger, lambda _: served.woken.append("woken") or "")  # type: ignore[func-returns-value]
    ready = threading.Event()
    with listening("127.0.0.1", 0) as listener:
        served.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with patch.object(users, "hashed", return_value=HASH):  # what strangers' passwords are compared with
            served.access = shared_access(settings)
        if served.access is None:
            served.link = OneTimeLink(lambda _: None)
            app = local_app(parts, served.link, listener)
        else:
            app = Starlette(routes=[page_mount(parts, served.access)])
        running = Server(configuration(app), ready.set)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        assert ready.wait(10)
        try:
            yield served
        finally:
            running.should_exit = True
            thread.join(30)
