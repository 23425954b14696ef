"""Dead letters and persons on the page: acted upon by number, shown by name to those alone who may see it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from consent.imports import Checkpoint, ImportSource, RejectedRow
from consent.ledger.ledger import Ledger
from consent.ledger.queue.breakers import Breaker, Trip
from consent.outcome import PermanentFailure
from tests.support.browser.page import EVERYONE, page, text_of
from tests.support.ledgers import change_of, deliver, guarded, imported

UNKNOWN = PermanentFailure("1012", "Capillary cannot find this customer")
OTHER = PermanentFailure("8015", "the account is closed")
EVIL = "<script>alert(1)</script>'\"><img src=x onerror=alert(2)>{{7*7}}javascript:alert(3)"


@pytest.fixture
def both(ledger_url: str) -> Iterator[Ledger]:
    """An empty ledger on each database."""
    ledger = Ledger(ledger_url)
    yield ledger
    ledger.close()


def with_letters(ledger: Ledger) -> None:
    """Sixty letters for one reason, two for another, and one of the sixty is overtaken."""
    imported(ledger, *(change_of(f"387006{n:03}") for n in range(60)))
    deliver(ledger, UNKNOWN)
    imported(ledger, *(change_of(f"387007{n:03}") for n in range(2)))
    deliver(ledger, OTHER)
    imported(ledger, change_of("387006000", "OPTIN", 5))
    deliver(ledger)


def test_a_group_is_replayed_by_the_number_that_was_shown(both: Ledger) -> None:
    """The group's own letters alone are delivered again, and the overtaken one is closed."""
    with_letters(both)
    with page(both) as served, served.browser() as browser:
        groups = text_of(browser.get("/dead-letters"))
        assert "60 capillary 1012 capillary 1012 Capillary cannot find this customer" in groups  # the second for phones
        shown = browser.get("/dead-letters?connection=capillary&code=1012")
        assert "387006" not in shown.text
        plan = browser.submit(shown, "/plan", what="replay")
        assert "delivered again 59" in text_of(plan)
        assert "closed 1" in text_of(plan)
        assert browser.submit(plan, "/replay", expect="59", why="created there").status_code == 409
        assert browser.submit(plan, "/replay", expect="60", why="").status_code == 422
        assert len(both.queries.letters_page()) == 50
        done = browser.submit(plan, "/replay", expect="60", why="created there")
        assert "59 letters will be delivered again; 1 closed" in text_of(done)
        assert served.woken == ["woken"]
    assert len(deliver(both)) == 59
    assert len(both.queries.letters_page()) == 2


def test_letters_are_shown_page_by_page(both: Ledger) -> None:
    """Each letter once, the latest first, whatever is deleted or added meanwhile."""
    with_letters(both)
    with page(both) as served, served.browser() as browser:
        first = browser.get("/dead-letters")
        assert "Earlier" in text_of(first)
    ids = both.queries.letters_page(limit=50)
    rest = both.queries.letters_page(before=ids[-1])
    assert (len(ids), len(rest), len({*ids, *rest})) == (50, 12, 62)
    assert both.queries.letters_page(code="8015", connection="capillary") == ids[:2]
    assert both.queries.letters_page(connection="other") == []


def test_one_letter_is_discarded_and_stays_in_the_history(both: Ledger) -> None:
    """With who and why; nothing is replayed by it."""
    imported(both, change_of("387006417"), change_of("387006418"))
    deliver(both, UNKNOWN)
    number = both.queries.letters_page()[0]
    with page(both, ui_users=EVERYONE) as served, served.browser("otto") as otto:
        shown = otto.get(f"/dead-letters/{number}")
        assert "HTTP 200" in text_of(shown)
        plan = otto.submit(shown, "/plan", what="discard")
        otto.submit(plan, "/discard", expect="1", why="left us")
        assert "discarded left us" in text_of(otto.get(f"/dead-letters/{number}"))
        assert otto.get("/dead-letters/9999999").status_code == 404
        assert otto.get("/dead-letters/none").status_code == 404
        assert otto.get(f"/dead-letters/{2**70}").status_code == 404
    assert len(both.queries.letters_page()) == 1


CAPILLARY = {
    "capillary": {
        "provider": "capillary",
        "base_url": "http://127.0.0.1:1",
        "username": "till",
        "password": "hush-hush-7",
    }
}
SLOT = '["EMAIL","","BULK",-1]'


def test_a_letter_is_corrected_once(both: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong value is named by its column; the right one is sent, and the same form again does nothing."""
    imported(both, change_of("387006417", slot=SLOT))
    deliver(both, UNKNOWN)
    number = both.queries.letters_page()[0]
    with (
        caplog.at_level(logging.DEBUG),
        page(both, ui_users=EVERYONE, connections=CAPILLARY) as served,
        served.browser("otto") as otto,
        served.browser("vera") as vera,
    ):
        assert "Correct it" not in text_of(vera.get(f"/dead-letters/{number}"))
        shown = otto.get(f"/dead-letters/{number}")
        assert "387006417" not in shown.text
        assert "user_id …417" in text_of(shown)
        assert "channel EMAIL" in text_of(shown)
        assert otto.submit(shown, "/correct", why="x").status_code == 422
        assert otto.submit(shown, "/correct", **{"set-user_id": "387006418"}).status_code == 422
        bad = otto.submit(shown, "/correct", **{"set-channel": "PIGEON"}, why="x")
        assert (bad.status_code, "Channel: " in text_of(bad)) == (422, True)
        for wrong in ({"set-action": "OPTIN"}, {"set-effective_at": "2026-01-01T00:00:00Z"}, {"set-shoe": "7"}):
            assert otto.submit(shown, "/correct", **wrong, why="x").status_code == 422
        assert otto.submit(shown, "/correct", **{"set-user_id": "387006417"}, why="x").status_code == 409
        assert len(both.queries.letters_page()) == 1
        done = otto.submit(shown, "/correct", **{"set-user_id": "387006418"}, why="a slip")
        assert "is closed, replaced by change" in text_of(done)
        assert "which will be delivered" in text_of(done)
        assert otto.submit(shown, "/correct", **{"set-user_id": "387006418"}, why="a slip").status_code == 404
        assert "corrected: user_id" in text_of(otto.get("/audit"))
        assert "38700641" not in otto.get("/audit").text
        assert served.woken == ["woken"]
        found = otto.submit(otto.get("/person"), "/person", column="user_id", value="387006417")
        assert "OPTOUT replaced by a correction" in text_of(found)
        assert "newer change" not in text_of(found)
    assert deliver(both) == [("387006418", f"{SLOT} OPTOUT")]
    assert "38700641" not in caplog.text


def test_a_person_is_named_to_privacy_alone_and_that_is_noted(both: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """Search by form, masked; the name only with the role and a reason; no identifier in an address or a log."""
    imported(both, change_of("387006417", "OPTOUT", reason="rang up at noon"))
    deliver(both, UNKNOWN)
    number = both.queries.letters_page()[0]
    fields = {"column": "user_id", "value": "387006417"}
    with caplog.at_level(logging.DEBUG), page(both, ui_users=EVERYONE) as served:
        with served.browser("otto") as otto:
            found = otto.submit(otto.get("/person"), "/person", **fields)
            assert "user_id=…417" in text_of(found)
            assert "user_id=387006417" not in found.text
            assert "rang up" not in found.text
            assert str(found.url).endswith("/ui/person")
            assert otto.post("/person/reveal", fields | {"csrf": otto.csrf(), "why": "x"}).status_code == 403
            assert otto.post(f"/dead-letters/{number}/reveal", {"csrf": otto.csrf(), "why": "x"}).status_code == 403
        assert both.queries.audit_page() == []
        with served.browser("priya") as priya:
            found = priya.submit(priya.get("/person"), "/person", **fields)
            assert priya.submit(found, "/reveal", why=" ").status_code == 422
            assert both.queries.audit_page() == []
            named = priya.submit(found, "/reveal", why="she asked what we hold")
            assert "user_id=387006417" in text_of(named)
            assert "rang up at noon" in text_of(named)
            assert "she asked what we hold" in text_of(priya.get("/audit"))
            letter = priya.submit(priya.get(f"/dead-letters/{number}"), "/reveal", why="she asked again")
            assert "user_id=387006417" in text_of(letter)
            missing = priya.submit(priya.get("/person"), "/person", column="user_id", value="1")
            assert "No change was ever recorded" in text_of(missing)
    assert [(one.who, one.what, one.change_id) for one in both.queries.audit_page()] == [
        ("user priya", "revealed", number)
    ] * 2
    assert "387006417" not in caplog.text


def test_what_others_wrote_is_text_everywhere(ledger: Ledger) -> None:
    """A file's name, its cells, a rejected row, a provider's reply, and what people type: none becomes markup."""
    source = ImportSource("csv", f"/drop/{EVIL}", "evil", 1, None)
    import_id = ledger.intake.open_import(source).import_id
    rejects = [RejectedRow(2, EVIL, EVIL, EVIL, EVIL)]
    changes = [change_of(EVIL, slot=EVIL, reason=EVIL)]
    ledger.intake.accept(import_id, changes, rejects, Checkpoint(2, 3, 0, 2))
    ledger.intake.finish_reading(import_id)
    ledger.intake.publish(import_id)
    deliver(ledger, PermanentFailure(EVIL, EVIL))
    held = guarded(
        ledger, change_of(EVIL, "OPTIN", 5, slot=EVIL), resurrects_from=1, resurrects_share=0.001, undated_optins=1
    )
    number = ledger.queries.letters_page()[0]
    refused = Trip(Breaker.REFUSED, EVIL, ledger.now())
    ledger.breakers.open_breaker(ledger.breakers.health_of("capillary"), refused, now=ledger.now())
    imported(ledger, change_of("1", slot=EVIL))
    ledger.notices.observe(("x",), {"x": ("x", EVIL)}, tell=False)
    with page(ledger, connections=CAPILLARY) as served, served.browser() as browser:
        shown = browser.get(f"/imports/{held}")
        correction = {"csrf": browser.csrf(), "set-user_id": EVIL, f"set-{EVIL}": EVIL, "clear": EVIL, "why": EVIL}
        group = {"csrf": browser.csrf(), "what": "replay", "connection": EVIL, "code": EVIL, "import_id": EVIL}
        pages = [
            shown,
            *(
                browser.get(path)
                for path in ("/", "/imports", f"/imports/{import_id}", "/dead-letters", "/connections")
            ),
            browser.get(f"/dead-letters/{number}"),
            browser.get("/dead-letters"),
            browser.client.get(f"{served.url}/ui/dead-letters", params={"connection": EVIL, "code": EVIL}),
            browser.client.get(f"{served.url}/ui/imports/{EVIL}"),
            browser.submit(browser.get("/person"), "/person", column="user_id", value=EVIL, connection=EVIL),
            browser.submit(browser.get("/person"), "/person", column=EVIL, value=EVIL),
            browser.submit(browser.get(f"/dead-letters/{number}"), "/reveal", why=EVIL),
            browser.post(f"/dead-letters/{number}/correct", correction),
            browser.post("/dead-letters/plan", group),
            browser.submit(browser.get("/"), "/notices/acknowledge", **{f"notice-{EVIL}": EVIL}, why=EVIL),
            browser.submit(browser.get("/"), "/notices/acknowledge", **{"notice-1": EVIL}, why=EVIL),
        ]
        if ledger.review.held_import(held) is not None:
            pages.append(browser.submit(shown, "/approve", expect=EVIL, why=EVIL))
        pages.append(browser.get("/audit"))
    for one in pages:
        assert "<script>alert" not in one.text, one.url
        assert "<img src=x" not in one.text, one.url
        assert "'\"><" not in one.text, one.url
        assert 'href="javascript' not in one.text, one.url
    assert sum("&lt;script&gt;alert(1)" in one.text for one in pages) > 8


@pytest.mark.parametrize("wrong", [{"value": ""}, {"column": ""}, {"column": "shoe_size"}, {"value": "\0"}])
def test_a_search_that_cannot_be_says_so(ledger: Ledger, wrong: dict[str, str]) -> None:
    """The form is shown again, with what was typed."""
    with page(ledger) as served, served.browser() as browser:
        fields = {"column": "user_id", "value": "387006417"} | wrong
        assert browser.submit(browser.get("/person"), "/person", **fields).status_code == 422


def test_a_person_is_searched_by_email(ledger: Ledger) -> None:
    """Where a connection knows persons so, in any spelling; a webhook has no such name, and none is offered."""
    ann = {"identifier_name": "email", "identifier_value": "ann@example.com", "source": "INSTORE"}
    imported(ledger, replace(change_of(""), address=ann))
    with page(ledger, connections=CAPILLARY) as served, served.browser() as browser:
        form = browser.get("/person")
        assert "<option>email</option>" in form.text
        found = browser.submit(form, "/person", column="email", value="Ann@EXAMPLE.com")
        assert "1 match." in text_of(found)
    gupshup = {"gupshup": {"provider": "gupshup", "base_url": "http://127.0.0.1:1"}}
    with page(ledger, connections=gupshup) as served, served.browser() as browser:
        assert "<option>email</option>" not in browser.get("/person").text


def test_of_very_many_changes_the_latest_are_shown(both: Ledger) -> None:
    """An address for tests that is opted in and out all day made a page of a hundred thousand rows."""
    actions = ("OPTIN", "OPTOUT")
    imported(both, *(change_of("387006417", actions[n % 2], n) for n in range(250)))
    with page(both) as served, served.browser() as browser:
        found = browser.submit(browser.get("/person"), "/person", column="user_id", value="387006417")
    assert "The 200 latest changes optrelay history tells all." in text_of(found)
    assert found.text.count('data-name="Effective (UTC)"') == 200
    assert found.text.count("superseded by a newer change") == 199
