"""What people decide about imports on the page is what the commands do, with the same numbers and the same log."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from sqlalchemy import update

from consent.imports import ImportSource, RejectedRow
from consent.ledger.ledger import Ledger
from consent.ledger.review.holds import Decision
from consent.ledger.review.undo import Undone
from consent.ledger.schema import imports
from console.commands.page.app import PLACES
from tests.support.browser.page import EVERYONE, Browser, forms, page, text_of
from tests.support.ledgers import change_of, counts, deliver, guarded, imported, recorded, run_of


@pytest.fixture
def both(ledger_url: str) -> Iterator[Ledger]:
    """An empty ledger on each database."""
    ledger = Ledger(ledger_url)
    yield ledger
    ledger.close()


def held_file(ledger: Ledger) -> str:
    """Three opted out and were delivered; a file opts two of them in again, and another one out."""
    imported(ledger, *(change_of(f"10{n}", "OPTOUT") for n in range(3)))
    deliver(ledger)
    again = [change_of(f"10{n}", "OPTIN", 5) for n in range(2)]
    return guarded(ledger, *again, change_of("200", "OPTOUT", 5), resurrects_from=1, resurrects_share=0.01)


def test_a_held_import_is_approved_with_the_right_number_alone(both: Ledger) -> None:
    """Today names it, a wrong number does nothing and keeps what was typed, the right one lets it go."""
    import_id = held_file(both)
    with page(both) as served, served.browser() as browser:
        assert "waits for approval" in text_of(browser.get("/"))
        shown = browser.get(f"/imports/{import_id}")
        assert "All of it would change 3 slots , only its opt-outs 1 , only its opt-ins 2 ." in text_of(shown)

        wrong = browser.submit(shown, "/approve", expect="2", why="checked with CRM")
        assert wrong.status_code == 409
        assert "Nothing was done: it would change 3 slots now, and you typed 2." in text_of(wrong)
        assert 'value="checked with CRM"' in wrong.text
        assert counts(both, import_id) == {"pending": 3}
        assert browser.submit(shown, "/approve", expect="3", why=" ").status_code == 422
        assert browser.submit(shown, "/approve", expect="three", why="x").status_code == 422
        assert browser.submit(shown, "/approve", expect="3", why="x", only="everything").status_code == 422
        assert browser.submit(shown, "/approve", expect=str(2**63), why="x").status_code == 422
        assert both.review.held_import(import_id) is not None

        done = browser.submit(shown, "/approve", expect="3", why="checked with CRM")
        assert "3 changes approved, which change 3 slots." in text_of(done)
        assert "checked with CRM" in text_of(done)
        assert served.woken == ["woken"]
        again = browser.submit(shown, "/approve", expect="3", why="checked with CRM")
        assert "Nothing of it is held any more" in text_of(again)
    assert {who for who, _ in deliver(both)} == {"100", "101", "200"}


def test_no_part_is_offered_of_a_file_without_opt_outs(ledger: Ledger) -> None:
    """Its guard's name stands with what it means."""
    imported(ledger, change_of("100"))
    deliver(ledger)
    import_id = guarded(ledger, change_of("100", "OPTIN", 5), resurrects_from=1, resurrects_share=0.01)
    with page(ledger) as served, served.browser() as browser:
        shown = text_of(browser.get(f"/imports/{import_id}"))
    assert "All of it would change 1 slot . What" in shown
    assert "only its opt-outs" not in shown
    assert "resurrects (opts people in again who are opted out)" in shown


def test_only_the_opt_outs_are_approved_and_the_rest_is_withdrawn(both: Ledger) -> None:
    """The two decisions of a mixed file, each with its own number."""
    import_id = held_file(both)
    with page(both) as served, served.browser() as browser:
        shown = browser.get(f"/imports/{import_id}")
        browser.submit(shown, "/approve", only="optouts", expect="1", why="opt-outs are right")
        shown = browser.get(f"/imports/{import_id}")
        assert "Held: 2 opt-ins and 0 opt-outs" in text_of(shown)
        assert listed_states(browser) == ["held", "read whole"], (
            "the list said published, as if nothing waited for a person"
        )
        browser.submit(shown, "/withdraw", expect="2", why="an old export")
    assert deliver(both) == [("200", "EMAIL|BULK OPTOUT")]
    assert counts(both, import_id) == {"applied": 1, "withdrawn": 2}


def test_what_a_server_takes_in_is_open_in_the_list_as_elsewhere(ledger: Ledger) -> None:
    """The list said reading, where the import's page and `optrelay status` say open."""
    ledger.intake.open_import(ImportSource("http", "web", "a run", 0, None, stream=True))
    with page(ledger) as served, served.browser() as browser:
        assert listed_states(browser) == ["open"]


def listed_states(browser: Browser) -> list[str]:
    """What the list of imports says of each."""
    return re.findall(r'class="state [a-z]+">([^<]+)<', browser.get("/imports").text)


def test_an_import_is_undone_after_its_effects_were_shown(both: Ledger) -> None:
    """A mistaken opt-in is undone; the number that was shown must be typed."""
    before = imported(both, change_of("100", "OPTOUT"))
    deliver(both)
    mistake = imported(both, change_of("100", "OPTIN", 5), change_of("200", "OPTIN", 5))
    deliver(both)
    with page(both) as served, served.browser() as browser:
        plan = browser.get(f"/imports/{mistake}/undo")
        assert "undone 2 slots get back" in text_of(plan)
        assert f"1 back to opted out, as before (1 by nightly.csv, import {before})" in text_of(plan)
        assert "1 back to opted out, because nothing was said of them before" in text_of(plan)
        wrong = browser.submit(plan, "/undo", expect="1", why="an old export")
        assert (wrong.status_code, "and not 1, which you typed" in text_of(wrong)) == (409, True)
        done = text_of(browser.submit(plan, "/undo", expect="2", why="an old export"))
        assert "2 slots undone: 1 back to opted out, as before" in done
    assert sorted(deliver(both)) == [("100", "EMAIL|BULK OPTOUT"), ("200", "EMAIL|BULK OPTOUT")]


def test_the_page_says_what_was_undone_and_what_cannot_be(ledger: Ledger) -> None:
    """The list says undone of the mistake; of the import that undid it, and of a held one, the page says why not."""
    imported(ledger, change_of("100", "OPTOUT"), change_of("200", "OPTOUT"))
    mistake = imported(ledger, change_of("100", "OPTIN", 5))
    held = guarded(ledger, change_of("200", "OPTIN", 7), resurrects_most=0)
    undone = ledger.review.undo(mistake, Decision("ann", "an old export"))
    assert isinstance(undone, Undone)
    with page(ledger) as served, served.browser() as browser:
        assert sorted(listed_states(browser)) == ["held", "read whole", "read whole", "undone"]
        assert "Undone 20" in text_of(browser.get(f"/imports/{mistake}"))
        assert "There is nothing to undo." in text_of(browser.get(f"/imports/{mistake}/undo"))
        for one, reason in ((undone.undo_id, "it is itself what undid"), (held, "it is held, and nothing of it")):
            shown = browser.get(f"/imports/{one}/undo")
            assert f"It cannot be undone: {reason}" in text_of(shown)
            assert [action for action, _ in forms(shown) if action.endswith("/undo")] == []


def test_an_events_page_says_where_the_rejected_events_are(ledger: Ledger) -> None:
    """No rejects file lies beside what came over HTTP."""
    run = run_of(ledger)
    ledger.intake.accept_events(run, [change_of("100")], [RejectedRow(2, "channel", "unknown_value", "write EMAIL")])
    with page(ledger) as served, served.browser() as browser:
        shown = text_of(browser.get(f"/imports/{run}"))
    assert f"optrelay rejected-events list --import {run}" in shown
    assert "rejects file" not in shown


def test_four_eyes_hold_for_the_account_of_the_machine(ledger: Ledger) -> None:
    """With OPTRELAY_FOUR_EYES `optrelay ui` approves nothing: an account of the machine proves no name."""
    import_id = held_file(ledger)
    with page(ledger, four_eyes=True) as served, served.browser() as browser:
        shown = browser.get(f"/imports/{import_id}")
        assert "proves no name" in text_of(shown)
        fields = {"csrf": browser.csrf(), "only": "all", "expect": "3", "why": "mine"}
        assert browser.post(f"/imports/{import_id}/approve", fields).status_code == 403
        assert ledger.review.held_import(import_id) is not None
    with page(ledger, four_eyes=True, ui_users=EVERYONE) as served, served.browser("anna") as browser:
        browser.submit(browser.get(f"/imports/{import_id}"), "/approve", expect="3", why="looked at it")
    assert [(one.who, one.what) for one in ledger.queries.audit_page()][:1] == [("user anna", "approved")]


def test_who_has_imported_a_file_does_not_approve_it(ledger: Ledger) -> None:
    """Anna's own command has read it: with OPTRELAY_FOUR_EYES she is told that another person has to approve it."""
    import_id = held_file(ledger)
    mine = update(imports).where(imports.c.id == import_id).values(importers="anna")
    ledger.database.write(lambda tx: tx.execute(mine))
    with page(ledger, four_eyes=True, ui_users=EVERYONE) as served, served.browser("anna") as browser:
        refused = browser.submit(browser.get(f"/imports/{import_id}"), "/approve", expect="3", why="mine")
        assert (refused.status_code, "anna has imported it" in text_of(refused)) == (403, True)
    assert ledger.review.held_import(import_id) is not None


def test_a_mistake_that_a_later_file_repeats_is_shown(ledger: Ledger) -> None:
    """The page names the import that says the same again."""
    imported(ledger, change_of("100", "OPTOUT"))
    deliver(ledger)
    mistake = imported(ledger, change_of("100", "OPTIN", 5))
    deliver(ledger)
    later = imported(ledger, change_of("100", "OPTIN", 6))
    with page(ledger) as served, served.browser() as browser:
        shown = text_of(browser.get(f"/imports/{mistake}/undo"))
    assert "said again 1 of these, later imports say the same again" in shown
    assert later in shown


def test_what_is_not_there_is_said(ledger: Ledger) -> None:
    """Ids that are none, and an import that is still being read."""
    reading = recorded(ledger, change_of("100"))
    with page(ledger) as served, served.browser() as browser:
        assert browser.get("/imports/none").status_code == 404
        assert browser.get("/nothing").status_code == 404
        assert "reading" in text_of(browser.get(f"/imports/{reading}"))
        fields = {"csrf": browser.csrf(), "only": "all", "expect": "1", "why": "x"}
        assert "Nothing of it is held" in text_of(browser.post(f"/imports/{reading}/approve", fields))
        assert browser.post("/imports/none/approve", fields).status_code == 404
        assert browser.get("/imports?before=none").status_code == 200


def test_each_place_is_shown_with_nothing_in_the_ledger(ledger: Ledger) -> None:
    """A new installation sees what there will be, and no error."""
    with page(ledger) as served, served.browser() as browser:
        for place in PLACES:
            if place.method == "GET" and "{" not in place.path:
                assert (place.path, browser.get(place.path).status_code) == (place.path, 200)
        assert "Nothing. No opt-out is pending." in text_of(browser.get("/"))
