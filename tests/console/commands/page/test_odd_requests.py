"""Requests that no browser sends: ids with a NUL, origins that are none, forms that come too slowly or break off."""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import pytest

from consent.ledger.ledger import Ledger
from console.commands.page.users import User, Users
from producers.http import admission
from tests.support.browser.page import EVERYONE, PASSWORD, forms, page, text_of
from tests.support.examples import POSTGRESQL_IN_PROOFS

ODD = ("\0", "a\0b")
STRANGERS = 60
"""More logins at once than a server has threads for everything else."""


@pytest.fixture
def books(ledger_url: str) -> Iterator[Ledger]:
    """An empty ledger; the same test on both databases, of which PostgreSQL takes no NUL."""
    ledger = Ledger(ledger_url)
    yield ledger
    ledger.close()


def logged(caplog: pytest.LogCaptureFixture, least: int) -> list[str]:
    """What was said that is no news of a server which starts."""
    return [one.getMessage() for one in caplog.records if one.levelno >= least]


@pytest.mark.parametrize("odd", ODD)
def test_nothing_has_a_name_with_a_nul(books: Ledger, odd: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is not found, whatever the database, and nothing is said about a ledger that is away."""
    name = quote(odd)
    places = (f"/imports/{name}", f"/imports/{name}/rejects.csv", f"/imports/{name}/undo", f"/dead-letters/{name}")
    lists = ("/imports?before", "/audit?before", *(f"/dead-letters?{of}" for of in ("connection", "code", "import_id")))
    with page(books) as served, served.browser() as browser, caplog.at_level(logging.WARNING):
        for place in (*places, *(f"{one}={name}" for one in lists)):
            assert (place, browser.get(place).status_code) == (place, 404)
        fields = {"csrf": browser.csrf(), "why": "x", "expect": "0", "only": "all", "what": "replay"}
        for place in ("approve", "withdraw", "undo"):
            assert (place, browser.post(f"/imports/{name}/{place}", fields).status_code) == (place, 404)
        for place in ("plan", "replay", "discard"):
            for of in ("id", "connection", "code", "import_id"):
                assert (of, browser.post(f"/dead-letters/{place}", fields | {of: odd}).status_code) == (of, 404)
    assert logged(caplog, logging.WARNING) == []


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "//", "nowhere"])
def test_an_origin_that_is_none_is_refused(books: Ledger, origin: str, caplog: pytest.LogCaptureFixture) -> None:
    """As any other origin is, and not as a fault of ours."""
    with page(books) as served, served.browser() as browser, caplog.at_level(logging.ERROR):
        refused = browser.post("/logout", {"csrf": browser.csrf()}, origin=origin)
        assert refused.status_code == 403
        assert "another site" in text_of(refused)
        assert browser.get("/").status_code == 200
    assert logged(caplog, logging.ERROR) == []


def _send_slowly(url: str, seconds: float) -> bytes:
    """Send the login form a byte at a time until the server answers; return the beginning of its answer."""
    address = url.removeprefix("http://")
    head = f"POST /ui/login HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/x-www-form-urlencoded\r\n"
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(f"{head}content-length: 9000\r\n\r\n".encode())
        client.settimeout(0.1)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            client.sendall(b"a")
            try:
                return client.recv(100)
            except TimeoutError:
                continue
    return b""


def test_a_form_that_comes_too_slowly_is_let_go(books: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The login is open to all: clients that never end a form would take every connection there is."""
    monkeypatch.setattr(admission, "BODY_SECONDS", 0.3)
    with page(books, ui_users=EVERYONE) as served:
        assert _send_slowly(served.url, 10).startswith(b"HTTP/1.1 408")


def test_a_form_that_breaks_off_is_no_fault_of_ours(books: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """A browser that is closed meanwhile leaves no error in the log."""
    with page(books, ui_users=EVERYONE) as served, caplog.at_level(logging.ERROR):
        _send_slowly(served.url, 0.2)
        with served.browser("vera") as browser:
            assert browser.get("/").status_code == 200
    assert logged(caplog, logging.ERROR) == []


@POSTGRESQL_IN_PROOFS
def test_a_burst_of_logins_holds_up_no_one_and_takes_little_memory(
    books: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hashing a password takes 32 MB: a stranger's burst took 1.3 GB, and every thread that answers others."""
    goes_on, lock = threading.Event(), threading.Lock()
    under_way: list[int] = [0, 0]

    def slowly(_: Users, _name: str, _password: str) -> User | None:
        with lock:
            under_way[0] += 1
            under_way[1] = max(under_way)
        goes_on.wait(20)
        with lock:
            under_way[0] -= 1
        return None

    with page(books, ui_users=EVERYONE) as served, served.browser("vera") as vera:
        form = vera.get("/login")
        found = re.search(r'name="csrf" value="([^"]+)"', form.text)
        assert found is not None
        fields = {"csrf": found[1], "password": "x"}
        monkeypatch.setattr(Users, "with_password", slowly)
        with ThreadPoolExecutor(STRANGERS) as strangers:
            tries = [strangers.submit(vera.post, "/login", fields | {"name": f"n{one}"}) for one in range(STRANGERS)]
            time.sleep(1)
            began = time.monotonic()
            assert vera.client.get(f"{served.url}/ui/imports", timeout=10).status_code == 200
            waited = time.monotonic() - began
            goes_on.set()
            assert {one.result().status_code for one in tries} == {403}
    assert under_way[1] <= 2
    assert waited < 5


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://consent.example.com", "127.0.0.1:8080"),  # nginx names its upstream unless it is told otherwise
        ("https://other.example.com", "other.example.com:443"),
        ("https://other.example.com:8443", "other.example.com:8443"),
    ],
)
def test_a_form_comes_through_a_proxy(ledger: Ledger, origin: str, host: str) -> None:
    """Behind an ordinary proxy no one could sign in or approve: every form was that of another site."""
    with page(ledger, ui_users=EVERYONE, public_url="https://consent.example.com") as served, httpx.Client() as client:
        shown = client.get(f"{served.url}/ui/login")
        cookie = shown.headers["set-cookie"].partition(";")[0]  # it is for HTTPS alone
        filled = forms(shown)[0][1] | {"name": "vera", "password": PASSWORD}

        def send(**headers: str) -> int:
            return client.post(f"{served.url}/ui/login", data=filled, headers={"cookie": cookie, **headers}).status_code

        assert send(origin=origin, host=host) == 303
        assert send(origin="https://evil.example.com", host=host) == 403
        assert send(origin=origin + ".evil.example.com", host=host) == 403
        assert send(origin="http://[", host=host) == send(origin="null", host=host) == 403
