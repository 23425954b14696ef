"""What people see of the server in a real browser: on a phone, in the dark, to a screen reader."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from consent.ledger.ledger import Ledger
from consent.public_page import PublicPage
from tests.support.browser import CHROMIUM, DRIVER, MISSING, chromium, look, press, text, violations
from tests.support.http_server import ANN, server

pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif(not (DRIVER and CHROMIUM), reason=MISSING),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # selenium leaves its driver's pipes open
]

FIELDS = {name: value for name, value in ANN.items() if name not in ("action", "effective_at")}
LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="200" height="60" viewBox="0 0 200 60">'
    '<image href="http://127.0.0.1:1/spy.png"/><script>document.title="obeyed"</script>'
    '<circle cx="30" cy="30" r="24" fill="#0b5fff"/><path d="M60 45V10L100 35V10h8v40L68 25v20z" fill="#223"/></svg>'
)
LONG = "Northwind Traders Gesellschaft für Wochenangebote-und-Sonderverkaufsveranstaltungsbenachrichtigungen"


def test_a_person_reads_and_presses(books: Ledger, tmp_path: Path) -> None:
    """In six languages, light and dark, on a screen and a phone: axe finds nothing, no page is too wide, one button."""
    (tmp_path / "logo.svg").write_text(LOGO)
    topics = [{"when": {"channel": "EMAIL"}, "list": {"en": "Weekly offers", "de": LONG}}]
    settings = {"brand": "Northwind", "logo": str(tmp_path / "logo.svg"), "colour": "#0b5fff", "topics": topics}
    pictures = Path(os.environ.get("PICTURES", tmp_path))
    found: dict[str, list[str]] = {}
    with server(books, public_page=PublicPage.model_validate(settings)) as served, chromium() as driver:
        driver.execute_cdp_cmd("Network.enable", {})
        for language in ("en", "de", "fr", "es", "pt", "hi"):
            driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {"Accept-Language": language}})
            for width, scheme in ((390, "dark"), (1280, "light"), (390, "light"), (1280, "dark")):
                look(driver, width, scheme)
                driver.get(f"{served.url}/v1/unsubscribe/{served.state.tokens.make(FIELDS, 60)}")
                assert driver.find_element(By.TAG_NAME, "html").get_attribute("lang") == language
                assert len(driver.find_elements(By.TAG_NAME, "button")) == 1
                assert driver.execute_script("return document.images[0].naturalWidth") == 200
                faults = violations(driver)
                _keep(driver, pictures / f"{language}-{width}-{scheme}-asks.png")
                press(driver, driver.find_element(By.TAG_NAME, "button"))
                faults += violations(driver)
                _keep(driver, pictures / f"{language}-{width}-{scheme}-done.png")
                wide = driver.execute_script("return document.documentElement.scrollWidth")
                faults += [f"{wide} pixels wide"] if wide > width else []
                if faults:
                    found[f"{language} {width} {scheme}"] = faults
        assert "Northwind" in text(driver)
        assert [one["message"] for one in driver.get_log("browser") if one["level"] == "SEVERE"] == []
    assert found == {}


def test_the_documentation_can_be_read_everywhere(books: Ledger) -> None:
    """With every example open: axe finds nothing, and nothing is wider than a phone."""
    with server(books) as served, chromium() as driver:
        for width, scheme in ((390, "dark"), (1280, "light")):
            look(driver, width, scheme)
            driver.get(f"{served.url}/docs")
            driver.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
            assert violations(driver) == []
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width


def _keep(driver: object, path: Path) -> None:
    path.write_bytes(base64.b64decode(driver.get_screenshot_as_base64()))  # type: ignore[attr-defined]
