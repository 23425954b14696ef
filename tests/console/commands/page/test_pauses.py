"""A connection is paused and resumed on the page, by those who may."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver.common.by import By

from consent.ledger.ledger import Ledger
from tests.support.browser import CHROMIUM, DRIVER, MISSING, chromium, fill_in, press, text, violations
from tests.support.browser.page import EVERYONE, page, text_of
from tests.support.ledgers import change_of, deliver, imported

CAPILLARY = {"provider": "capillary", "base_url": "http://127.0.0.1:9", "username": "demo", "password": "demo"}
CONNECTIONS = {"capillary": CAPILLARY}


@pytest.fixture
def both(ledger_url: str) -> Iterator[Ledger]:
    """An empty ledger on each database."""
    ledger = Ledger(ledger_url)
    yield ledger
    ledger.close()


def test_opt_ins_are_paused_and_resumed(both: Ledger) -> None:
    """The place says it, the audit log keeps who and why, and workers are woken when it goes on."""
    imported(both, change_of("100"), change_of("101", "OPTIN"))
    with page(both, connections=CONNECTIONS) as served, served.browser() as browser:
        shown = browser.get("/connections")
        done = browser.submit(shown, "/pause", place="capillary", why="welcome mails")
        assert "capillary: opt-ins are paused." in text_of(done)
        assert "welcome mails" in text_of(browser.get("/audit"))
        assert deliver(both) == [("100", "EMAIL|BULK OPTOUT")]
        resumed = browser.submit(done, "/resume", only="all", why="they are ready")
        assert "capillary: resumed." in text_of(resumed)
        assert served.woken == ["woken"]
        again = browser.submit(done, "/resume", only="all", why="they are ready")
        assert "Nothing of capillary is paused any more" in text_of(again)
    assert deliver(both) == [("101", "EMAIL|BULK OPTIN")]
    assert [one.what for one in both.queries.audit_page()] == [
        "resumed the opt-ins of capillary",
        "paused the opt-ins of capillary",
    ]


def test_a_whole_pause_warns_of_its_opt_outs_and_may_be_narrowed(both: Ledger) -> None:
    """It says how many opt-outs wait; they can go on alone."""
    imported(both, change_of("100"), change_of("101", "OPTIN"))
    with page(both, connections=CONNECTIONS) as served, served.browser() as browser:
        done = browser.submit(browser.get("/connections"), "/pause", place="capillary", only="all", why="maintenance")
        assert "A paused opt-out is a late opt-out" in text_of(done)
        assert "1 customer with opt-outs" in text_of(done)
        assert deliver(both) == []
        assert "maintenance" in text_of(browser.get("/"))
        browser.submit(done, "/resume", only="optouts", why="opt-outs first")
    assert deliver(both) == [("100", "EMAIL|BULK OPTOUT")]


def test_what_cannot_be_meant_is_refused(both: Ledger) -> None:
    """An unknown connection, no reason, no choice, another's form, and a role that may not."""
    with page(both, connections=CONNECTIONS, ui_users=EVERYONE) as served:
        with served.browser("otto") as browser:
            shown = browser.get("/connections")
            for wrong in ({"place": "unknown"}, {"why": " "}, {"only": "optouts"}):
                fields = {"place": "capillary", "why": "x"} | wrong
                assert browser.submit(shown, "/connections/pause", **fields).status_code == 422
            assert browser.submit(shown, "/connections/pause", csrf="x", place="capillary", why="x").status_code == 403
        with served.browser("vera") as browser:
            assert "/connections/pause" not in browser.get("/connections").text
            form = {"csrf": browser.csrf(), "place": "capillary", "why": "x", "only": "all"}
            assert browser.post("/connections/pause", form).status_code == 403
            assert browser.post("/connections/resume", form).status_code == 403
    assert both.pauses.current() == []


@pytest.mark.proof
@pytest.mark.skipif(not (DRIVER and CHROMIUM), reason=MISSING)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # selenium leaves its driver's pipes open
@pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_a_connection_is_paused_and_resumed_in_a_browser(ledger: Ledger, *, scripts: bool) -> None:
    """Opt-ins are what is chosen already; axe-core finds nothing serious while something is paused."""
    imported(ledger, change_of("100"), change_of("101", "OPTIN"))
    with page(ledger, connections=CONNECTIONS) as served, chromium(scripts=scripts) as driver:
        assert served.link is not None
        driver.get(f"{served.url}/ui/open?token={served.link.secret}")
        press(driver, driver.find_element(By.LINK_TEXT, "Connections"))
        fill_in(driver, "/connections/pause", why="welcome mails")
        assert "capillary: opt-ins are paused." in text(driver)
        assert deliver(ledger) == [("100", "EMAIL|BULK OPTOUT")]
        if scripts:
            assert violations(driver) == []
        fill_in(driver, "/connections/resume", why="they are ready")
        assert "capillary: resumed." in text(driver)
        assert deliver(ledger) == [("101", "EMAIL|BULK OPTIN")]
