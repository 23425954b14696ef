"""The picture of the page in the README: `make screenshot` takes it of the demo's ledger, with chromium."""

from __future__ import annotations

import os
import sys
from contextlib import chdir
from pathlib import Path

from consent.ledger.ledger import Ledger
from consent.settings import load_settings
from tests.support.browser import DRIVER, MISSING, chromium, look
from tests.support.browser.page import page

_END = "return document.querySelector('main').lastElementChild.getBoundingClientRect().bottom"


def take(folder: Path, picture: Path) -> None:
    """Open Today of a demo's folder at 1280 pixels, and write what is seen."""
    target = picture.resolve()
    with chdir(folder):
        settings = load_settings()
        ledger = Ledger(settings.ledger_url)
        with page(ledger, connections=settings.connections) as served, chromium() as driver:
            look(driver, 1280, "light")
            driver.get(f"{served.url}/ui/open?token={served.link.secret if served.link else ''}")
            end = driver.execute_script(_END)
            metrics = {"width": 1280, "height": int(end) + 16, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            driver.save_screenshot(str(target))
        ledger.close()


if __name__ == "__main__":
    if DRIVER is None:
        sys.exit(MISSING)
    os.environ["LOGNAME"] = "ann"
    take(Path(sys.argv[1]), Path(sys.argv[2]))
