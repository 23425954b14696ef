"""The page in a real browser, with and without JavaScript, in both colour schemes, on a screen and a phone."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from consent.imports import Checkpoint, ImportSource, RejectedRow
from consent.ledger.ledger import Ledger
from consent.outcome import PermanentFailure
from consent.settings import Settings
from tests.support.browser import CHROMIUM, DRIVER, MISSING, addresses, chromium, fill_in, look, press, text, violations
from tests.support.browser.page import EVERYONE, PASSWORD, page
from tests.support.browser.states import CONNECTIONS, PERSON, SIZES, go_through, log_in, prepared
from tests.support.ledgers import change_of, deliver, guarded, imported

pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif(not (DRIVER and CHROMIUM), reason=MISSING),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # selenium leaves its driver's pipes open
]


_SIDEWAYS = "return [...document.querySelectorAll('.scroll')].some((one) => one.scrollWidth > one.clientWidth)"


def something_of_each(ledger: Ledger) -> tuple[str, str]:
    """Dead letters, rejected rows, and a held file; returns the ids of the one with rejects, and of the held one."""
    source = ImportSource("csv", "/srv/drop/monday-1.csv", "monday", 1, None)
    first = ledger.intake.open_import(source).import_id
    rejects = [RejectedRow(5, "channel", "unknown_value", "write one of MOBILE, EMAIL, wechat, whatsapp, line")]
    ledger.intake.accept(first, [change_of(f"38700641{n}") for n in range(3)], rejects, Checkpoint(4, 6, 0, 4))
    ledger.intake.finish_reading(first)
    ledger.intake.publish(first)
    deliver(ledger)
    imported(ledger, change_of("404"), change_of("405"))
    deliver(ledger, PermanentFailure("1012", "Capillary cannot find this customer"))
    again = [change_of(f"38700641{n}", "OPTIN", 5) for n in range(2)]
    return first, guarded(ledger, *again, resurrects_from=1, resurrects_share=0.01)


@pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_a_person_opens_the_link_decides_and_replays(ledger: Ledger, *, scripts: bool) -> None:
    """The link, Today, a wrong number and the right one, a group replayed; the same without JavaScript."""
    _, held = something_of_each(ledger)
    ledger.notices.observe(("ledger_full",), {"ledger_full": ("ledger_full", "make room")}, tell=False)
    with page(ledger) as served, chromium(scripts=scripts) as driver:
        assert served.link is not None
        driver.get(f"{served.url}/ui/open?token={served.link.secret}")
        assert "waits for approval" in text(driver)
        driver.find_element(By.CSS_SELECTOR, "#notices > summary").click()
        driver.find_element(By.NAME, "notice-1").click()
        fill_in(driver, "/notices/acknowledge", why="a disk is on its way")
        assert "1 notice acknowledged: not told again." in text(driver)
        assert ledger.notices.current()[0].why == "a disk is on its way"
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


def test_no_state_of_the_page_has_a_serious_fault_for_a_screen_reader(tmp_path: Path) -> None:
    """axe-core finds none in any place, after any mistake, in light and in dark; nothing is wider than a phone."""
    rules = Settings(connections=CONNECTIONS).chosen_deadlines
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", deadline_rules=rules)
    ledger.maintenance.prepare()
    ids = prepared(ledger)
    found: dict[str, list[str]] = {}
    seen = set()

    def see(name: str) -> None:
        seen.add(name)
        for width, scheme in SIZES:
            look(driver, width, scheme)
            wide = driver.execute_script("return document.documentElement.scrollWidth")
            faults = violations(driver) + ([f"{wide} pixels wide"] if wide > width else [])
            if name.startswith("person") and driver.execute_script(_SIDEWAYS):
                faults.append("a table scrolls sideways")
            if faults:
                found[f"{name} {width} {scheme}"] = faults

    with chromium() as driver:
        with page(ledger, connections=CONNECTIONS) as served:
            assert served.link is not None
            driver.get(f"{served.url}/ui/open?token={served.link.secret}")
            go_through(driver, served, ids, see)
        with page(ledger, ui_users=EVERYONE, connections=CONNECTIONS) as served:
            log_in(driver, served, see)
    ledger.close()
    assert found == {}
    assert len(seen) >= 24


def test_a_whole_session_leaves_no_identifier_in_addresses_and_logs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Go through every state, correct a letter, find a person and see the name.

    No address that the browser asked for or came from, no log line and no entry of the audit log tells an identifier or
    a password.
    """
    rules = Settings(connections=CONNECTIONS).chosen_deadlines
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", deadline_rules=rules)
    ledger.maintenance.prepare()
    ids = prepared(ledger)
    with caplog.at_level(logging.DEBUG), chromium() as driver:
        caplog.clear()
        with page(ledger, ui_users=EVERYONE, connections=CONNECTIONS) as served:
            log_in(driver, served, lambda _: None)
            opened = addresses(driver)
        with page(ledger, connections=CONNECTIONS) as served:
            assert served.link is not None
            driver.get(f"{served.url}/ui/open?token={served.link.secret}")
            go_through(driver, served, ids, lambda _: None)
            driver.get(f"{served.url}/ui/dead-letters/{ids[2]}")
            driver.execute_script("document.querySelector('details.panel').open = true")
            fill_in(driver, "/correct", **{"set-user_id": f"{PERSON}99", "why": "a slip"})
            assert "is closed, replaced by change" in text(driver)
            opened += addresses(driver)
            driver.get(f"{served.url}/ui/audit")
            assert "she asked" in text(driver)
            assert PERSON not in driver.page_source
    ledger.close()
    assert any(one.endswith("/person/reveal") for one in opened)
    assert [one for one in opened if PERSON in one or PASSWORD in one] == []
    ours = [one.getMessage() for one in caplog.records if not one.name.startswith(("selenium", "urllib3"))]
    assert [line for line in ours if PERSON in line or PASSWORD in line] == []
