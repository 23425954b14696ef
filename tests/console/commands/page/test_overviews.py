"""What is seen at a glance: Today in its order, the connections, a person's deadlines, when an import is done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from consent.ledger.ledger import Ledger
from consent.settings import Settings
from tests.support.browser.page import EVERYONE, page, text_of
from tests.support.browser.states import CONNECTIONS, PERSON, file_of, new_change, prepared
from tests.support.ledgers import deliver


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger with the deadlines of the settings."""
    rules = Settings(connections=CONNECTIONS).chosen_deadlines
    found = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", deadline_rules=rules)
    found.maintenance.prepare()
    yield found
    found.close()


def test_today_says_in_order_what_to_do_and_draws_the_last_hours(ledger: Ledger) -> None:
    """Held imports, deadlines, stopped connections, dead letters, notices; pictures with their figures in tables."""
    prepared(ledger)
    with page(ledger, connections=CONNECTIONS) as served, served.browser() as browser:
        shown = browser.get("/")
    text = text_of(shown)
    order = (
        "resurrects.csv waits for approval",
        "capillary : 4 opt-outs past their deadline, 4 opt-outs will be late",
        "Opt-outs that wait for a person capillary: 8 opt-outs among the dead letters: 8 due within a day",
        "shop is stopped; 3 customers wait",
        "8 dead letters could not be delivered",
        "Notice 1 since",
        "Changes settled at most 20 changes in a quarter of an hour",
        "Customers waiting at most 11 customers",
    )
    places = [text.find(one) for one in order]
    assert -1 not in places, dict(zip(order, places, strict=True))
    assert places == sorted(places)
    for picture in shown.text.split('<svg class="plot"')[1:]:
        drawn, _, table = picture.partition("</svg>")
        assert 'aria-hidden="true"' in drawn
        assert "<rect" in drawn
        assert '<th scope="row"' in table
    assert PERSON not in shown.text
    assert re.search(r'due within a day by the rule [a-z0-9-]+ · <a href="[^"]*/dead-letters">Look</a>', shown.text)


def test_one_customer_who_waits_is_spoken_of_as_one(ledger: Ledger) -> None:
    """Today said "1 customer have changes to be delivered"."""
    file_of(ledger, "a.csv", new_change(10))
    with page(ledger, connections=CONNECTIONS) as served, served.browser() as browser:
        assert "1 customer has changes to be delivered;" in text_of(browser.get("/"))


def test_today_with_nothing_to_do_says_so(ledger: Ledger) -> None:
    """No empty picture. A notice that no one has acknowledged needs a person, though what it tells of is over."""
    file_of(ledger, "a.csv", new_change(10))
    deliver(ledger)
    with page(ledger, connections=CONNECTIONS) as served, served.browser() as browser:
        text = text_of(browser.get("/"))
        assert "What needs a person Nothing." in text
        assert "The last hours" not in text
        ledger.counters.add_up()
        assert "Changes settled at most 1 change in a quarter" in text_of(browser.get("/"))
        ledger.notices.observe(("import_held",), {"import_held:1": ("import_held", "import 1 is held")}, tell=False)
        text = text_of(browser.get("/"))
        assert "What needs a person Nothing." not in text
        assert "1 notice that no one has acknowledged is below: import 1 is held" in text
        ledger.notices.acknowledge(1, who="ann", why="seen")
        assert "What needs a person Nothing." in text_of(browser.get("/"))


def test_notices_are_acknowledged_on_the_page(ledger: Ledger) -> None:
    """As by `optrelay notices ack`: also one that Today shows in its own words; what was over meanwhile stays so."""
    kinds = ("ledger_full", "import_held", "fuse")
    ledger.notices.observe(kinds, {kind: (kind, f"<b>{kind}</b> `stands`") for kind in kinds}, tell=False)
    with page(ledger, connections=CONNECTIONS, ui_users=EVERYONE) as served, served.browser("otto") as browser:
        shown = browser.get("/")
        assert "3 notices that no one has acknowledged" in text_of(shown)
        assert "<b>" not in shown.text
        for wrong in ({"why": "they are at it"}, {"notice-1": "yes", "why": " "}):
            refused = browser.submit(shown, "/notices/acknowledge", **wrong)
            assert refused.status_code == 422
            assert refused.text.count("checked") == ("notice-1" in wrong)
        assert all(one.acknowledged_at is None for one in ledger.notices.current())
        ledger.notices.observe(kinds[2:], {}, tell=False)
        fields = {"notice-1": "yes", "notice-3": "yes", "notice-x": "yes", "why": "they are at it"}
        done = browser.submit(shown, "/notices/acknowledge", **fields)
        assert "1 notice acknowledged: not told again. What is over was left as it is." in text_of(done)
        assert "1 notice that no one has acknowledged" in text_of(done)
        assert "user otto knows" in text_of(done)
    assert {one.id: one.acknowledged_by for one in ledger.notices.current()} == {1: "user otto", 2: None}
    assert [(one.who, one.what) for one in ledger.queries.audit_page()] == [
        ("user otto", "acknowledged notice 1, ledger_full")
    ]


def test_connections_show_the_forecast_against_the_deadlines(ledger: Ledger) -> None:
    """What is due and what is delivered by then, as a picture and as a table; the breaker in words."""
    prepared(ledger)
    with page(ledger, connections=CONNECTIONS) as served, served.browser() as browser:
        shown = browser.get("/connections")
    text = text_of(shown)
    assert "Breaker closed: it is called" in text
    assert "Breaker open: it refuses our credentials" in text
    assert "calls on average (latest calls: how many a second, times how long each took) ; at most 600 calls" in text
    assert "4 customers will be late" in text
    assert "if it came back now" in text
    assert shown.text.count('<polyline class="done"') == 2
    assert "Opt-outs of capillary against their deadlines" in text


def test_a_persons_changes_show_their_deadlines(ledger: Ledger) -> None:
    """When an opt-out is due, by which rule, and whether it is late; an opt-in has none."""
    prepared(ledger)
    file_of(ledger, "in.csv", new_change(50, "OPTIN", hours=0.1))
    with page(ledger, connections=CONNECTIONS) as served, served.browser() as browser:
        asked = browser.get("/person")
        late = text_of(browser.submit(asked, "/person", column="user_id", value=f"{PERSON}51"))
        also = text_of(browser.submit(asked, "/person", column="user_id", value=f"{PERSON}50"))
    assert "gmail-48h" in late
    assert "late" not in late.split("Every change")[1]
    assert " late gmail-48h" in also
    assert also.count("gmail-48h") == 1


def test_an_import_says_when_it_is_done_or_that_no_one_can_tell(ledger: Ledger) -> None:
    """At the present rate; where a connection is stopped there is no end to be told."""
    waiting = file_of(ledger, "waiting.csv", *(new_change(n, connection="shop") for n in range(10, 14)))
    with page(ledger, connections=CONNECTIONS) as served, served.browser() as browser:
        assert "is delivered by" in text_of(browser.get(f"/imports/{waiting}"))
        prepared(ledger)
        assert "No one can tell when it is delivered" in text_of(browser.get(f"/imports/{waiting}"))
