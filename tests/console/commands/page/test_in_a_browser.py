"""The page in a real browser, with and without JavaScript, in both colour schemes, on a screen and a phone."""

from __future__ import annotations

import logging

import pytest
from selenium.webdriver.common.by import By

from consent.imports import Checkpoint, ImportSource, RejectedRow
from consent.ledger.ledger import Ledger
from consent.outcome import PermanentFailure
from tests.support.browser import CHROMIUM, DRIVER, MISSING, chromium, fill_in, look, press, text, violations
from tests.support.browser.page import EVERYONE, PASSWORD, page
from tests.support.ledgers import deliver, guarded, imported, word

pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif(not (DRIVER and CHROMIUM), reason=MISSING),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # selenium leaves its driver's pipes open
]

PLACES = ("/", "/imports", "/dead-letters", "/connections", "/person", "/audit")
PERSON = "387006417"


def something_of_each(ledger: Ledger) -> tuple[str, str]:
    """Dead letters, rejected rows, and a held file; returns the ids of the one with rejects, and of the held one."""
    source = ImportSource("csv", "/srv/drop/monday-1.csv", "monday", 1, None)
    first = ledger.intake.open_import(source).import_id
    rejects = [RejectedRow(5, "channel", "unknown_value", "write one of MOBILE, EMAIL, wechat, whatsapp, line")]
    ledger.intake.accept(first, [word(f"38700641{n}") for n in range(3)], rejects, Checkpoint(4, 6, 0, 4))
    ledger.intake.finish_reading(first)
    ledger.intake.publish(first)
    deliver(ledger)
    imported(ledger, word("404"), word("405"))
    deliver(ledger, PermanentFailure("1012", "Capillary cannot find this customer"))
    again = [word(f"38700641{n}", "OPTIN", 5) for n in range(2)]
    return first, guarded(ledger, *again, resurrects_from=1, resurrects_share=0.01)


@pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_a_person_opens_the_link_decides_and_replays(ledger: Ledger, *, scripts: bool) -> None:
    """The link, Today, a wrong number and the right one, a group replayed; the same without JavaScript."""
    _, held = something_of_each(ledger)
    with page(ledger) as served, chromium(scripts=scripts) as driver:
        assert served.link is not None
        driver.get(f"{served.url}/ui/open?token={served.link.secret}")
        assert "waits for approval" in text(driver)
        press(driver, driver.find_element(By.LINK_TEXT, "Decide"))
        fill_in(driver, "/approve", expect="7", why="checked with CRM")
        assert "Nothing was done: it would change 2 slots now, and you typed 7." in text(driver)
        assert ledger.review.held_import(held) is not None
        fill_in(driver, "/approve", expect="2")
        assert "2 changes approved, which change 2 slots." in text(driver)
        assert ledger.review.held_import(held) is None

        press(driver, driver.find_element(By.LINK_TEXT, "Dead letters"))
        press(driver, driver.find_element(By.LINK_TEXT, "Look"))
        press(driver, driver.find_element(By.XPATH, "//button[.='Replay these…']"))
        assert "Replay 2 dead letters" in text(driver)
        fill_in(driver, "/replay", expect="2", why="they exist now")
        assert "2 letters will be delivered again" in text(driver)
        severe = [one["message"] for one in driver.get_log("browser") if "409" not in one["message"]]
        assert severe == []


def test_no_place_has_a_serious_fault_for_a_screen_reader(ledger: Ledger) -> None:
    """axe-core finds none in light and in dark, and no page is wider than a phone."""
    first, held = something_of_each(ledger)
    number = ledger.queries.letters_page()[0]
    more = (f"/imports/{first}", f"/imports/{held}", f"/imports/{first}/undo", f"/dead-letters/{number}", "/none")
    found: dict[str, list[str]] = {}
    with page(ledger) as served, chromium() as driver:
        assert served.link is not None
        driver.get(f"{served.url}/ui/open?token={served.link.secret}")
        for width, scheme in ((1280, "light"), (390, "dark"), (1280, "dark"), (390, "light")):
            look(driver, width, scheme)
            for place in (*PLACES, *more):
                driver.get(f"{served.url}/ui{place}")
                wide = driver.execute_script("return document.documentElement.scrollWidth")
                faults = violations(driver) + ([f"{wide} pixels wide"] if wide > width else [])
                if faults:
                    found[f"{place} {width} {scheme}"] = faults
    assert found == {}


def test_a_whole_session_leaves_no_identifier_in_addresses_and_logs(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """Log in, find a person, see the name: every address that the browser opened, and every log line, is without it."""
    something_of_each(ledger)
    opened = []
    with caplog.at_level(logging.DEBUG), page(ledger, ui_users=EVERYONE) as served, chromium() as driver:
        caplog.clear()
        driver.get(f"{served.url}/ui/")
        assert driver.current_url.endswith("/ui/login")
        assert violations(driver) == []
        fill_in(driver, "/login", name="priya", password=PASSWORD)
        press(driver, driver.find_element(By.LINK_TEXT, "Person"))
        fill_in(driver, "/person", value=PERSON[:-1] + "1")
        opened.append(driver.current_url)
        assert "user_id=…411" in text(driver)
        assert violations(driver) == []
        fill_in(driver, "/reveal", why="she asked what we hold")
        opened.append(driver.current_url)
        assert f"user_id={PERSON[:-1]}1" in text(driver)
        press(driver, driver.find_element(By.LINK_TEXT, "Audit log"))
        assert "she asked what we hold" in text(driver)
        opened.append(driver.current_url)
    assert all(PERSON[:-1] not in address for address in opened)
    ours = [one.getMessage() for one in caplog.records if not one.name.startswith(("selenium", "urllib3"))]
    assert all(PERSON[:-1] not in line and PASSWORD not in line for line in ours)
