"""A day on the page: a held import is approved, dead letters are replayed and corrected, a person is named."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.browser.page import Browser, text_of
from tests.support.company import Company, Row, assert_balanced, company

ASKED = "she asked by telephone"


def rows(action: str, day: int, customers: range) -> list[Row]:
    """One row for each customer."""
    since = f"2026-11-{day}T08:30:00Z"
    return [
        {"user_id": str(n), "channel": "EMAIL", "priority": "BULK", "action": action, "effective_at": since}
        for n in customers
    ]


@contextmanager
def page_of(shop: Company) -> Iterator[Browser]:
    """`optrelay ui`, and a browser that has opened its link."""
    process = shop.start("ui", "--json")
    try:
        assert process.stdout is not None
        link = json.loads(process.stdout.readline())["url"]
        browser = Browser(link.partition("/ui/")[0])
        with browser.client:
            assert browser.client.get(link).status_code == 200
            yield browser
    finally:
        process.terminate()
        process.communicate(timeout=30)


def decide(browser: Browser) -> None:
    """Today leads to the held import; a wrong number does nothing, the right one approves."""
    today = browser.get("/")
    assert "tuesday.csv waits for approval" in text_of(today)
    assert "3 dead letters could not be delivered" in text_of(today)
    held = re.search(r'/ui(/imports/[^"]+)" aria-label="Decide', today.text)
    assert held is not None
    shown = browser.get(held[1])
    assert browser.submit(shown, "/approve", expect="29", why=ASKED).status_code == 409
    done = browser.submit(shown, "/approve", expect="30", why="the spring campaign")
    assert "30 changes approved, which change 30 slots" in text_of(done)


def know_of_it(browser: Browser) -> None:
    """What people were told of the dead letters is not told again tomorrow."""
    today = browser.get("/")
    box = re.search(r'name="(notice-\d+)"[^>]*> 3 dead letters', today.text)
    assert box is not None
    answer = browser.submit(today, "/notices/acknowledge", why="on it", **{box[1]: "yes"})
    assert "1 notice acknowledged: not told again." in text_of(answer)


def deal_with_letters(browser: Browser) -> None:
    """The one with the slip is corrected, the other two are replayed."""
    letter = re.search(r'/ui(/dead-letters/\d+)"', browser.get("/dead-letters").text)
    assert letter is not None
    right = {"set-user_id": "387009999", "why": "two digits were swapped"}
    fixed = browser.submit(browser.get(letter[1]), "/correct", **right)
    assert "is closed, replaced by change" in text_of(fixed)
    plan = browser.submit(browser.get("/dead-letters"), "/plan", what="replay")
    done = browser.submit(plan, "/replay", expect="2", why="they were created")
    assert "2 letters will be delivered again" in text_of(done)


def name_one(browser: Browser) -> None:
    """Who asks is found by form, masked at first; the name needs a reason."""
    found = browser.submit(browser.get("/person"), "/person", column="user_id", value="387006007")
    assert "user_id=387006007" not in text_of(found)
    named = browser.submit(found, "/reveal", why=ASKED)
    for text in ("user_id=387006007", "monday.csv", "OPTIN confirmed"):
        assert text in text_of(named)


def test_a_day_on_the_page(tmp_path: Path) -> None:
    """Thirty who opted out would be opted in again; three customers are not known, one of them by a slip.

    The import is approved with the number that stands there. That letters died is acknowledged; they are replayed once
    the customers exist, and the slip is corrected. One who asks is found and named. The audit log tells all of it, and
    no identifier.
    """
    with company(tmp_path) as shop:
        shop.run("run", shop.write(rows("OPTOUT", 20, range(387006000, 387006040)), "monday.csv"))
        assert shop.run("run", shop.write(rows("OPTIN", 21, range(387006000, 387006030)), "tuesday.csv"))[0] == 3
        shop.fault(kind="unknown", users=["387008000", "387008001", "387008002"])
        code, third, _ = shop.run("run", shop.write(rows("OPTOUT", 21, range(387008000, 387008003)), "web.csv"))
        assert (code, third["dead"]) == (1, 3)
        shop.fix()

        with page_of(shop) as browser:
            know_of_it(browser)
            assert [one["kind"] for one in shop.run("notices")[1] if one["why"] == "on it"] == ["dead_letters_new"]
            decide(browser)
            deal_with_letters(browser)
            shop.run("run")
            name_one(browser)
            audit = browser.get("/audit")

        for seen in ("on it", "the spring campaign", "corrected: user_id", "they were created", ASKED):
            assert seen in text_of(audit)
        assert not re.search(r"38700[689]\d{3}", audit.text)
        by_person = {person: state for (person, *_), state in shop.held().items()}
        assert all(by_person[str(n)] == "OPTIN" for n in range(387006000, 387006030))
        assert by_person["387009999"] == "OPTOUT"
        for name in ("monday.csv", "tuesday.csv", "web.csv"):
            _, seen, _ = shop.run("status")
            one = next(each for each in seen["imports"] if each["name"].endswith(name))
            assert_balanced(one)
        assert sum(each["dead"] for each in seen["imports"]) == 0
