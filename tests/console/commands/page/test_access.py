"""Who comes in, and what is refused: another's form, another host, a forged proxy, a wrong role, too many logins."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from consent.errors import ConfigurationError
from consent.ledger.ledger import Ledger
from consent.settings import Settings
from console.commands.page.access import Sessions
from console.commands.page.app import PLACES
from console.commands.page.server import shared_access
from console.commands.page.users import Role, Throttle, User, Users, hashed
from tests.support.browser.page import EVERYONE, HASH, PASSWORD, Browser, forms, page, text_of

CHANGING = [place for place in PLACES if place.method == "POST"]
SECRET = "a secret of the proxy"
PROXY = {
    "ui_proxy_header": "X-Forwarded-User",
    "ui_proxy_secret": SECRET,
    "ui_users": f"anna[approver]=proxy,bob[viewer]={HASH}",
}


def path_of(place: object) -> str:
    """A path for a place, with ids that are none."""
    return str(place.path).replace("{id}", "1")


def test_each_form_without_its_secret_or_with_anothers_is_refused(ledger: Ledger) -> None:
    """A form of another site has no secret, and one that was stolen belongs to another session."""
    with page(ledger) as served, served.browser() as mine, served.browser() as other:
        others = other.csrf()
        for place in CHANGING:
            for secret in ({}, {"csrf": ""}, {"csrf": others}, {"csrf": "ä"}):
                refused = mine.post(path_of(place), {"why": "x", "expect": "1", **secret})
                assert (place.path, refused.status_code) == (place.path, 403)
                assert "This form is not valid" in text_of(refused)
        assert mine.post("/logout", {"csrf": others}).status_code == 403
        assert mine.get("/").status_code == 200


def test_each_change_of_another_origin_is_refused(ledger: Ledger) -> None:
    """Also with the right secret: browsers say where a form comes from."""
    with page(ledger) as served, served.browser() as browser:
        fields = {"csrf": browser.csrf(), "why": "x", "expect": "1"}
        for place in CHANGING:
            for headers in (
                {"origin": "https://evil.example.com"},
                {"origin": "null"},
                {"sec_fetch_site": "same-site"},
            ):
                refused = browser.post(path_of(place), fields, **headers)
                assert (place.path, refused.status_code) == (place.path, 403)
                assert "another site" in text_of(refused)


def test_each_place_needs_its_role(ledger: Ledger) -> None:
    """A viewer may look, and every change needs the role that its place names."""
    with page(ledger, ui_users=EVERYONE) as served, served.browser("vera") as vera:
        fields = {"csrf": vera.csrf()}
        for place in PLACES:
            if place.role is Role.VIEWER:
                continue
            answer = vera.post(path_of(place), fields) if place.method == "POST" else vera.get(path_of(place))
            assert (place.path, answer.status_code) == (place.path, 403)
            assert f"You need the role {place.role}" in text_of(answer)
    assert {place.path for place in CHANGING if place.role is Role.VIEWER} <= {"/person"}


def test_each_user_has_the_places_of_the_own_role_alone(ledger: Ledger) -> None:
    """An operator decides about no import, an approver replays no letter, and neither sees a name."""
    roles = {"otto": Role.OPERATOR, "anna": Role.APPROVER, "priya": Role.PRIVACY}
    with page(ledger, ui_users=EVERYONE) as served:
        for name, role in roles.items():
            with served.browser(name) as browser:
                fields = {"csrf": browser.csrf()}
                for place in (one for one in PLACES if one.role is not Role.VIEWER):
                    answer = (
                        browser.post(path_of(place), fields) if place.method == "POST" else browser.get(path_of(place))
                    )
                    assert (name, place.path, answer.status_code == 403) == (name, place.path, place.role is not role)


def test_the_login_form_belongs_to_its_browser(ledger: Ledger) -> None:
    """Another site cannot log someone in as another user: the form's secret goes with a cookie of this browser."""
    with page(ledger, ui_users=EVERYONE) as served:
        mine, other = Browser(served.url), Browser(served.url)
        with mine.client, other.client:
            others = forms(other.get("/login"))[0][1]["csrf"]
            mine.get("/login")
            for secret in ({}, {"csrf": ""}, {"csrf": others}):
                refused = mine.post("/login", {"name": "anna", "password": PASSWORD, **secret})
                assert (refused.status_code, "not valid" in text_of(refused)) == (403, True)
            right = {"name": "anna", "password": PASSWORD, "csrf": forms(mine.get("/login"))[0][1]["csrf"]}
            assert mine.post("/login", right, origin="https://evil.example.com").status_code == 403
            assert mine.get("/").url.path == "/ui/login"
            assert mine.post("/login", right).status_code == 200


def test_no_one_comes_in_without_a_session(ledger: Ledger) -> None:
    """Every place sends to the login; a form is not kept for later."""
    with page(ledger, ui_users=EVERYONE) as served:
        browser = Browser(served.url)
        with browser.client:
            for place in PLACES:
                if place.method == "GET":
                    assert browser.get(path_of(place)).url.path == "/ui/login"
                else:
                    assert browser.post(path_of(place), {"csrf": "x"}).status_code == 401


def test_a_host_that_was_rebound_is_refused(ledger: Ledger) -> None:
    """A site whose name leads to this machine names itself as the host: it sees nothing, not even the login."""
    with page(ledger) as served, served.browser() as browser:
        port = served.url.rpartition(":")[2]
        for host in (f"evil.example.com:{port}", "evil.example.com", f"127.0.0.1.evil.example.com:{port}", "127.0.0.1"):
            for place in ("/", "/imports", f"/open?token={served.link.secret if served.link else ''}", "/login"):
                assert browser.get(place, host=host).status_code == 403
        assert browser.get("/", host=f"localhost:{port}").status_code in {200, 401}
        assert browser.get("/").status_code == 200


def test_the_link_works_once(ledger: Ledger) -> None:
    """It is in the terminal's history: one who finds it there later has nothing."""
    with page(ledger) as served:
        assert served.link is not None
        used = served.link.secret
        with served.browser() as browser:
            assert browser.get("/").status_code == 200
        with httpx.Client() as client:
            for token in (used, "", "ä", used[:-1]):
                assert client.get(f"{served.url}/ui/open", params={"token": token}).status_code == 403
            assert client.get(f"{served.url}/ui/").status_code == 401


def test_a_session_cannot_be_fixed(ledger: Ledger) -> None:
    """A cookie that someone else chose is never a session, and a login replaces the one that was there."""
    with page(ledger, ui_users=EVERYONE) as served:
        browser = Browser(served.url)
        with browser.client:
            browser.client.cookies.set("optrelay_page", "chosen-by-another", domain="127.0.0.1", path="/ui")
            browser.client.cookies.set("optrelay_page_login", "chosen-by-another", domain="127.0.0.1", path="/ui")
            browser.log_in("anna")
            first = {one.value for one in browser.client.cookies.jar if one.name == "optrelay_page"}
            browser.log_in("anna")
            second = {one.value for one in browser.client.cookies.jar if one.name == "optrelay_page"}
        assert first.isdisjoint(second)
        assert "chosen-by-another" not in second
        for cookie in ("chosen-by-another", *(first - {"chosen-by-another"})):
            with httpx.Client(cookies={"optrelay_page": cookie}) as client:
                assert client.get(f"{served.url}/ui/").status_code == 303


def test_answers_carry_careful_headers(ledger: Ledger) -> None:
    """No other site may frame it, no script or style stands in it, its cookie is for it alone."""
    with page(ledger, ui_users=EVERYONE) as served:
        browser = Browser(served.url)
        with browser.client:
            begun = browser.log_in("anna").history[-1]
            pages = [browser.get(path) for path in ("/", "/login", "/imports", "/none", "/static/page.css", "/open")]
        cookie = begun.headers["set-cookie"]
        assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/ui"))
        for answer in [begun, *pages]:
            policy = answer.headers["content-security-policy"]
            assert "default-src 'self'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert all(
            " style=" not in one.text and "<script>" not in one.text and " on" + "click" not in one.text
            for one in pages
        )


def test_logins_are_throttled(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """Ten wrong passwords, and the right one is not looked at either for a while; no password is logged."""
    with caplog.at_level(logging.DEBUG), page(ledger, ui_users=EVERYONE) as served:
        browser = Browser(served.url)
        with browser.client:
            for number in range(10):
                assert browser.log_in("anna", f"wrong {number}").status_code == 403
            refused = browser.log_in("anna")
            assert (refused.status_code, "retry-after" in refused.headers) == (429, True)
            assert browser.log_in("otto").status_code == 200
    assert PASSWORD not in caplog.text
    assert "wrong 3" not in caplog.text


def test_of_logins_that_come_together_no_more_are_looked_at() -> None:
    """Two of them were the tenth: each had asked before the other was noted."""
    throttle = Throttle(lambda: time.sleep(0.02) or 0.0)
    with ThreadPoolExecutor(4) as threads:
        waits = list(threads.map(throttle.begin, ["anna"] * (Throttle.OF_NAME + 4)))
    assert waits.count(0.0) == Throttle.OF_NAME


def test_the_throttle_forgets_after_its_window() -> None:
    """A name is free again ten minutes after its failures, and a success forgets them."""
    now = [0.0]
    throttle = Throttle(lambda: now[0])
    for _ in range(Throttle.OF_NAME):
        assert throttle.wait("anna") == 0.0
        throttle.fail("anna")
    assert throttle.wait("anna") == Throttle.WINDOW_SECONDS
    now[0] += Throttle.WINDOW_SECONDS + 1
    assert throttle.wait("anna") == 0.0
    throttle.fail("anna")
    throttle.succeed("anna")
    for number in range(Throttle.OF_ALL):
        throttle.fail(f"name {number}")
    assert throttle.wait("anybody") > 0.0


def test_the_proxys_header_counts_beside_its_secret_alone(ledger: Ledger) -> None:
    """Behind a proxy on this host every request comes from loopback: the header alone grants nothing."""
    with page(ledger, **PROXY) as served:
        browser = Browser(served.url)
        with browser.client:
            name = {"x_forwarded_user": "anna"}
            for forged in ({}, {"x_optrelay_proxy_secret": ""}, {"x_optrelay_proxy_secret": "a secret of the prox"}):
                assert browser.get("/", **name, **forged).url.path == "/ui/login"
            proven = {"x_optrelay_proxy_secret": SECRET}
            assert "anna" in text_of(browser.get("/", **name, **proven))
            assert browser.get("/").url.path == "/ui/login"  # the proxy's cookie is nothing without its header
            assert browser.get("/", x_forwarded_user="bob", **proven).status_code == 403
            assert browser.get("/", x_forwarded_user="eve", **proven).status_code == 403
        twice = [("x-forwarded-user", "anna"), ("x-forwarded-user", "eve"), ("x-optrelay-proxy-secret", SECRET)]
        assert httpx.get(f"{served.url}/ui/", headers=twice).status_code == 403
        secrets = [("x-forwarded-user", "anna"), ("x-optrelay-proxy-secret", "no"), ("x-optrelay-proxy-secret", SECRET)]
        assert httpx.get(f"{served.url}/ui/", headers=secrets).status_code == 303
        with httpx.Client() as client:
            assert client.get(f"{served.url}/ui/login").status_code == 200


def test_a_user_of_the_proxy_has_no_password(ledger: Ledger) -> None:
    """`anna=proxy` cannot log in, whatever is typed."""
    with page(ledger, **PROXY) as served:
        browser = Browser(served.url)
        with browser.client:
            assert browser.log_in("anna", "proxy").status_code == 403
            assert browser.log_in("bob").status_code == 200


@pytest.mark.parametrize(
    "users",
    [
        "anna",
        "anna=x",
        f"anna={HASH}",
        f"anna[king]={HASH}",
        "anna[viewer]=scrypt:1:8:1:YQ:YQ",
        f"a[viewer]={HASH},a[viewer]={HASH}",
    ],
)
def test_users_that_cannot_be_are_refused(users: str) -> None:
    """At the start, and without showing a hash."""
    with pytest.raises(ConfigurationError) as refused:
        Users(users)
    assert HASH not in str(refused.value)


def test_a_proxy_needs_a_secret() -> None:
    """A header without one would let everybody in."""
    with pytest.raises(ConfigurationError, match="PROXY_SECRET"):
        shared_access(Settings(ui_proxy_header="X-User", ui_users="anna[viewer]=proxy"))
    with pytest.raises(ConfigurationError, match="PROXY_HEADER"):
        shared_access(Settings(ui_users="anna[viewer]=proxy"))
    assert shared_access(Settings()) is None
    with pytest.raises(ConfigurationError):
        hashed("too short")


def test_a_session_ends() -> None:
    """After an hour without a request, and after half a day in any case."""
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    cookie, _ = sessions.begin(User("anna", frozenset()))
    for _ in range(12):
        now[0] += 3500
        assert sessions.find(cookie) is not None
    now[0] += 3500
    assert sessions.find(cookie) is None
    cookie, _ = sessions.begin(User("anna", frozenset()))
    now[0] += 3700
    assert sessions.find(cookie) is None
