"""A real browser: Debian's chromium, driven by its chromedriver, and what axe-core finds on a page.

axe.min.js is axe-core 4.14.1 of Deque Systems, as npm has it, under the Mozilla Public License 2.0.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

DRIVER, CHROMIUM = shutil.which("chromedriver"), shutil.which("chromium")
MISSING = "no chromium and chromedriver here: apt-get install chromium chromium-driver"
_AXE = (Path(__file__).parent / "axe.min.js").read_text(encoding="utf-8")
_ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
SERIOUS = {"serious", "critical"}


@contextmanager
def chromium(*, scripts: bool = True) -> Iterator[webdriver.Chrome]:
    """A browser with nothing in it; without `scripts` no page runs any of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in _ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    if not scripts:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def look(driver: webdriver.Chrome, width: int, scheme: str) -> None:
    """Set the window's width in pixels, and light or dark."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def violations(driver: webdriver.Chrome) -> list[str]:
    """What axe-core finds on the page as it stands, that is serious or worse."""
    driver.execute_script(_AXE)
    found: dict[str, Any] = driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    return [
        f"{one['id']}: {node['html'][:160]}"
        for one in found["violations"]
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]


def addresses(driver: webdriver.Chrome) -> list[str]:
    """Every address that the browser has asked for since the last call, with the ones that it came from."""
    found = []
    for one in driver.get_log("performance"):
        message = json.loads(one["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            request = message["params"]["request"]
            found += [request["url"], request["headers"].get("Referer", ""), message["params"].get("documentURL", "")]
    return found


def fill_in(driver: webdriver.Chrome, action: str, **fields: str) -> None:
    """Type into the form that goes to `action`, and press its last button."""
    form = driver.find_element(By.CSS_SELECTOR, f"form[action$='{action}']")
    for name, value in fields.items():
        field = form.find_element(By.NAME, name)
        field.clear()
        field.send_keys(value)
    press(driver, form.find_elements(By.TAG_NAME, "button")[-1])


def press(driver: webdriver.Chrome, element: Any) -> None:
    """Press a button or a link, and wait until another page has come."""
    from selenium.webdriver.support.ui import WebDriverWait  # brings trio, and few processes of the tests see a browser

    before = driver.find_element(By.TAG_NAME, "html")
    element.click()
    WebDriverWait(driver, 20).until(lambda now: now.find_element(By.TAG_NAME, "html") != before)


def text(driver: webdriver.Chrome) -> str:
    """What stands on the page."""
    return " ".join(driver.find_element(By.TAG_NAME, "body").text.split())
