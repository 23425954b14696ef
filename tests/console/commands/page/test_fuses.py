"""What a fuse holds is shown where people look, and goes on by a form, for those who may."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver.common.by import By
from sqlalchemy import update

from consent.guards.fuse import FuseState
from consent.ledger.ledger import Ledger
from consent.ledger.review.fuse_counts import fuses
from tests.support.browser import CHROMIUM, DRIVER, MISSING, chromium, press, text, violations
from tests.support.browser.page import EVERYONE, page, text_of
from tests.support.fuses import drain, trip
from tests.support.ledgers import BUCKET, counts

CAPILLARY = {"provider": "capillary", "base_url": "http://127.0.0.1:9", "username": "demo", "password": "demo"}
CONNECTIONS = {"capillary": CAPILLARY}


@pytest.fixture
def both(ledger_url: str) -> Iterator[Ledger]:
    """An empty ledger on each database."""
    ledger = Ledger(ledger_url)
    yield ledger
    ledger.close()


def test_what_a_fuse_holds_is_shown_and_sent(both: Ledger) -> None:
    """Today says what a person must do, the list and the import say held; once it is sent the audit log says why."""
    file = trip(both)
    drain(both)
    with page(both, connections=CONNECTIONS) as served, served.browser() as browser:
        today = browser.get("/")
        assert "is held by a fuse" in text_of(today)
        assert "5 customers in a row drew 8011: no such account" in text_of(today)
        assert f'href="/ui/imports/{file}"' in today.text
        assert "held by a fuse" in text_of(browser.get("/imports"))
        assert "0 opt-ins and 7 opt-outs" in text_of(browser.get("/connections"))
        shown = browser.get(f"/imports/{file}")
        assert "Held: 0 opt-ins and 7 opt-outs" in text_of(shown)
        done = browser.submit(shown, "/fuses/reset", way="resume", why="the account is corrected")
        assert done.url.path == f"/ui/imports/{file}"
        assert "it is sent." in text_of(done)
        assert "the account is corrected" in text_of(done)
        assert served.woken == ["woken"]
        again = browser.submit(shown, "/fuses/reset", way="resume", why="the account is corrected")
        assert "so nothing was done" in text_of(again)
        assert "held by a fuse" not in text_of(browser.get("/"))
    assert len(drain(both)) == 7
    assert counts(both, file) == {"applied": 7, "dead": 5}


@pytest.mark.parametrize(
    ("way", "state", "left"),
    [
        ("optouts", FuseState.OPTOUTS, {"pending": 7, "dead": 5}),
        ("let-die", None, {"dead": 12}),
        ("off", None, {"pending": 7, "dead": 5}),
    ],
)
def test_each_way_to_go_on(both: Ledger, way: str, state: FuseState | None, left: dict[str, int]) -> None:
    """From Connections; what was decided is carried out by the time that the page answers."""
    file = trip(both)
    drain(both)
    with page(both, connections=CONNECTIONS) as served, served.browser() as browser:
        browser.submit(browser.get("/connections"), "/fuses/reset", way=way, why="looked at it")
        assert [one.state for one in both.fuses.tripped()] == ([] if state is None else [state])
        assert counts(both, file) == left
        if state is not None:
            assert "opt-ins held, opt-outs sent" in text_of(browser.get("/connections"))
    assert both.queries.audit_page()[0].what == f"fuse of capillary reset: {way}"


def test_a_form_is_about_its_own_fuse_alone(ledger: Ledger) -> None:
    """A fuse of the bucket has no origin; its form does not reset those of the files in it."""
    file = trip(ledger)
    mine = update(fuses).where(fuses.c.origin == "").values(state="held", code="8011", reason="x", tripped_at=1)
    trip(ledger, first=100)
    read = ledger.fuses.asks_for_read(BUCKET)
    assert read is not None
    ledger.fuses.note_read(BUCKET, read, well=True)
    ledger.database.write(lambda tx: tx.execute(mine))
    with page(ledger, connections=CONNECTIONS) as served, served.browser() as browser:
        fields = {"csrf": browser.csrf(), "bucket": "capillary", "origin": "", "way": "resume", "why": "x"}
        assert "connection capillary: it is sent." in text_of(browser.post("/fuses/reset", fields))
        assert {one.origin for one in ledger.fuses.tripped()} >= {file}
        assert "" not in {one.origin for one in ledger.fuses.tripped()}
        assert "nothing was done" in text_of(browser.post("/fuses/reset", fields | {"origin": "capillary"}))


def test_what_cannot_be_meant_is_refused(ledger: Ledger) -> None:
    """No reason, no choice, an unknown fuse, another's form, and a role that may not: nothing is reset."""
    file = trip(ledger)
    with page(ledger, connections=CONNECTIONS, ui_users=EVERYONE) as served:
        with served.browser("anna") as anna:
            shown = anna.get(f"/imports/{file}")
            for wrong in ({"why": " "}, {"way": ""}, {"way": "burn"}, {"why": "x" * 1001}):
                fields = {"way": "let-die", "why": "a file of another shop"} | wrong
                refused = anna.submit(shown, "/fuses/reset", **fields)
                assert refused.status_code == 422
                assert 'role="alert"' in refused.text
            refused = anna.submit(shown, "/fuses/reset", why="a file of another shop")
            assert 'value="a file of another shop"' in refused.text
            assert anna.submit(shown, "/fuses/reset", csrf="x", way="resume", why="x").status_code == 403
            gone = anna.submit(shown, "/fuses/reset", origin="none", way="resume", why="x")
            assert "nothing was done" in text_of(gone)
        for name in ("vera", "otto", "priya"):
            with served.browser(name) as other:
                shown = other.get(f"/imports/{file}")
                assert "/fuses/reset" not in shown.text + other.get("/connections").text
                assert "you need the role approver" in text_of(shown)
                form = {"csrf": other.csrf(), "bucket": "capillary", "origin": file, "way": "resume", "why": "x"}
                assert other.post("/fuses/reset", form).status_code == 403
    assert [one.state for one in ledger.fuses.tripped()] == [FuseState.HELD]


@pytest.mark.proof
@pytest.mark.skipif(not (DRIVER and CHROMIUM), reason=MISSING)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # selenium leaves its driver's pipes open
@pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_a_fuse_is_reset_in_a_browser(ledger: Ledger, *, scripts: bool) -> None:
    """From Today to the import, a way chosen and a reason given; axe-core finds nothing serious."""
    trip(ledger)
    drain(ledger)
    with page(ledger, connections=CONNECTIONS) as served, chromium(scripts=scripts) as driver:
        assert served.link is not None
        driver.get(f"{served.url}/ui/open?token={served.link.secret}")
        assert "is held by a fuse" in text(driver)
        press(driver, driver.find_element(By.LINK_TEXT, "Decide"))
        if scripts:
            assert violations(driver) == []
        form = driver.find_element(By.CSS_SELECTOR, "form[action$='/fuses/reset']")
        form.find_element(By.CSS_SELECTOR, "input[value=resume]").click()
        form.find_element(By.NAME, "why").send_keys("the account is corrected")
        press(driver, form.find_element(By.CSS_SELECTOR, "button"))
        assert "it is sent." in text(driver)
        assert "held by a fuse" not in text(driver)
    assert len(drain(ledger)) == 7
