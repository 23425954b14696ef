"""Every state of the page, one after the other in a real browser: for axe-core, for pictures, for people.

`python -m tests.support.browser.states FOLDER` writes a picture of each, at 1280 and 390 pixels, light and dark.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By

from consent.change import Action, ConsentChange
from consent.guards.rules import GuardRules, ImportGuards
from consent.imports import Checkpoint, ImportSource, RejectedRow
from consent.ledger.ledger import Ledger
from consent.ledger.queue.breakers import Breaker, Trip
from consent.outcome import PermanentFailure, Unchanged
from consent.settings import Settings
from consent.times import to_micros
from tests.support.browser import chromium, fill_in, look, press
from tests.support.browser.page import EVERYONE, PASSWORD, PageServer, page
from tests.support.ledgers import deliver

SLOT = '["EMAIL","","BULK",-1]'
LOGIN = {"username": "till", "password": "hush-hush-7"}
CONNECTIONS = {
    "capillary": {"provider": "capillary", "base_url": "http://127.0.0.1:1", "rate": "2/hour", **LOGIN},
    "shop": {"provider": "capillary", "base_url": "http://127.0.0.1:1", "rate": "100/minute", **LOGIN},
}
SIZES = ((1280, "light"), (390, "dark"), (1280, "dark"), (390, "light"))
PERSON = "38700641"
"""How the numbers of the persons begin."""

See = Callable[[str], None]
"""Is called in each state, with its name."""


def new_change(number: int, action: str = "OPTOUT", hours: float = 1.0, connection: str = "capillary") -> ConsentChange:
    """What a person said so many hours ago."""
    since = to_micros(datetime.now(UTC) - timedelta(hours=hours))
    return ConsentChange(connection, {"user_id": f"{PERSON}{number}"}, SLOT, Action(action), since, {"reason": "rang"})


def file_of(ledger: Ledger, name: str, *changes: ConsentChange, rejects: int = 0, **rules: object) -> str:
    """A file that has been read whole and is published, or held by these rules."""
    guards = ImportGuards(name, GuardRules.model_validate(rules), columns=("user_id",)) if rules else None
    source = ImportSource("csv", f"/srv/drop/{name}", name, 1, None, guards=guards)
    import_id = ledger.intake.open_import(source).import_id
    refused = [
        RejectedRow(9 + line, "channel", "unknown_value", "write one of MOBILE, EMAIL, wechat, whatsapp, line")
        for line in range(rejects)
    ]
    rows = len(changes) + rejects
    ledger.intake.accept(import_id, changes, refused, Checkpoint(rows, rows + 1, 0, rows))
    ledger.intake.finish_reading(import_id)
    ledger.intake.publish(import_id)
    return import_id


def prepared(ledger: Ledger) -> tuple[str, str, int]:
    """A ledger in which everything occurs: the ids of a delivered import and of a held one, and a dead letter."""
    first = file_of(ledger, "monday-1.csv", *(new_change(n, hours=30) for n in range(10, 22)), rejects=3)
    deliver(ledger, limit=8)
    deliver(ledger, Unchanged())
    for name, code, reason in (
        ("tuesday.csv", "1012", "Capillary cannot find this customer"),
        ("wednesday.csv", "8015", "the communication channel of this customer is closed"),
    ):
        start = 30 if code == "1012" else 40
        file_of(ledger, name, *(new_change(n, hours=29) for n in range(start, start + 4)))
        deliver(ledger, PermanentFailure(code, reason))
    late = [new_change(n, hours=47.9 if n % 2 else 60) for n in range(50, 58)]
    file_of(ledger, "backlog.csv", *late)
    file_of(ledger, "shop.csv", *(new_change(n, connection="shop") for n in range(60, 63)))
    refused = Trip(Breaker.REFUSED, "HTTP 401: fix OPTRELAY_CONNECTIONS__SHOP__PASSWORD", ledger.now())
    ledger.breakers.open_breaker(ledger.breakers.health_of("shop"), refused, now=ledger.now())
    held = file_of(
        ledger,
        "resurrects.csv",
        *(new_change(n, "OPTIN") for n in range(10, 14)),
        resurrects_from=1,
        resurrects_share=0.01,
    )
    ledger.notices.observe(("ledger_full",), {"ledger_full": ("ledger_full", "0.4 GB are free: make room")}, tell=False)
    ledger.counters.add_up()
    return first, held, ledger.queries.letters_page()[0]


def go_through(driver: webdriver.Chrome, served: PageServer, ids: tuple[str, str, int], see: See) -> None:
    """Bring a browser that has signed in into each state, without changing anything but the audit log."""
    first, held, number = ids

    def go(path: str) -> None:
        driver.get(f"{served.url}/ui{path}")

    plain = {
        "today": "/",
        "imports": "/imports",
        "import": f"/imports/{first}",
        "held": f"/imports/{held}",
        "undo": f"/imports/{first}/undo",
        "letters": "/dead-letters",
        "letters of a reason": "/dead-letters?connection=capillary&code=1012",
        "letter": f"/dead-letters/{number}",
        "connections": "/connections",
        "person": "/person",
        "audit": "/audit",
        "nothing there": "/none",
    }
    for name, path in plain.items():
        go(path)
        for closed in driver.find_elements(By.CSS_SELECTOR, "details:not([open]) > summary"):
            driver.execute_script("arguments[0].parentElement.open = true", closed)
        see(name)
    _make_mistakes(driver, go, ids, see)
    go(f"/dead-letters/{number}")
    fill_in(driver, "/reveal", why="she asked")
    see("letter, revealed")
    go("/person")
    fill_in(driver, "/person", value=f"{PERSON}999")
    see("person, not found")
    go("/person")
    fill_in(driver, "/person", value=f"{PERSON}50")
    see("person, found")
    fill_in(driver, "/reveal", why="she asked")
    see("person, revealed")


def _make_mistakes(driver: webdriver.Chrome, go: See, ids: tuple[str, str, int], see: See) -> None:
    """Fill in each form with something wrong."""
    first, held, number = ids
    go(f"/imports/{held}")
    fill_in(driver, "/approve", expect="77", why="checked")
    see("held, a wrong number")
    go(f"/imports/{first}/undo")
    if driver.find_elements(By.CSS_SELECTOR, "form[action$='/undo']"):
        fill_in(driver, "/undo", expect="77", why="checked")
        see("undo, a wrong number")
    for what in ("Replay these…", "Discard these…"):
        go("/dead-letters?connection=capillary&code=1012")
        press(driver, driver.find_element(By.XPATH, f"//button[.='{what}']"))
        see(f"plan, {what[:-1]}")
        fill_in(driver, "/replay" if what.startswith("R") else "/discard", expect="77", why="checked")
        see(f"plan, {what[:-1]}, a wrong number")
    go(f"/dead-letters/{number}")
    driver.execute_script("document.querySelector('details.panel').open = true")
    fill_in(driver, "/correct", **{"set-channel": "PIGEON", "why": "checked"})
    see("letter, a wrong correction")


def log_in(driver: webdriver.Chrome, served: PageServer, see: See) -> None:
    """Show the login page, let it refuse, and sign in as one who may only look."""
    driver.get(f"{served.url}/ui/login")
    see("login")
    fill_in(driver, "/login", name="vera", password="wrong")
    see("login refused")
    fill_in(driver, "/login", name="vera", password=PASSWORD)


def main(folder: Path) -> None:
    """Write the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(connections=CONNECTIONS)

    def take(driver: webdriver.Chrome) -> See:
        def see(name: str) -> None:
            for width, scheme in SIZES:
                look(driver, width, scheme)
                height = int(driver.execute_script("return document.documentElement.scrollHeight"))
                metrics = {"width": width, "height": min(2_400, height), "deviceScaleFactor": 1, "mobile": width < 500}
                driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
                file = f"{name.replace(' ', '-').replace(',', '')}-{width}-{scheme}.png"
                driver.save_screenshot(str(folder / file))

        return see

    with tempfile.TemporaryDirectory() as place, chromium() as driver:
        ledger = Ledger(f"sqlite:///{place}/ledger.db", deadline_rules=settings.chosen_deadlines)
        ledger.maintenance.prepare()
        ids = prepared(ledger)
        with page(ledger, connections=CONNECTIONS) as served:
            driver.get(f"{served.url}/ui/open?token={served.link.secret if served.link else ''}")
            go_through(driver, served, ids, take(driver))
        with page(ledger, ui_users=EVERYONE, connections=CONNECTIONS) as served:
            log_in(driver, served, take(driver))
        ledger.close()


if __name__ == "__main__":
    os.environ["LOGNAME"] = "ann"
    main(Path(sys.argv[1]))
