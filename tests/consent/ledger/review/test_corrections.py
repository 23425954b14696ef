"""A corrected dead letter: its change holds since its own time, and wins or loses as any other; on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import event

from consent.change import Action, ConsentChange
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.ledger import Ledger
from consent.ledger.review.corrections import Corrected, NotCorrected
from consent.outcome import PermanentFailure, State
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import Cut, change_of, counts, deliver, imported

UNKNOWN = PermanentFailure("1012", "Capillary cannot find this customer")


@pytest.fixture
def ledger(ledger_url: str):
    """An empty ledger on each database."""
    found = Ledger(ledger_url)
    yield found
    found.close()


def a_letter(ledger: Ledger, *changes: ConsentChange) -> tuple[str, int]:
    """An import whose changes have died, and the number of the first."""
    import_id = imported(ledger, *(changes or (change_of("anm"),)))
    deliver(ledger, UNKNOWN)
    return import_id, min(ledger.queries.letters_page())


def correct(ledger: Ledger, number: int, *changes: ConsentChange) -> object:
    """Correct a letter as the page does."""
    return ledger.review.correct(number, changes, columns=["user_id"], who="otto", why="a slip")


@POSTGRESQL_IN_PROOFS
def test_the_right_customer_is_sent_and_the_letter_is_closed(ledger: Ledger) -> None:
    """Both imports are balanced, and the audit log names the column, never what stands in it."""
    first, number = a_letter(ledger)

    done = correct(ledger, number, change_of("ann"))

    assert isinstance(done, Corrected)
    assert done.state is State.PENDING
    assert ledger.queries.letters_page() == []
    assert counts(ledger, first) == {"superseded": 1}
    assert counts(ledger, done.import_id) == {"pending": 1}
    assert deliver(ledger) == [("ann", "EMAIL|BULK OPTOUT")]
    assert counts(ledger, done.import_id) == {"applied": 1}
    (entry,) = ledger.queries.audit_page()
    assert (entry.who, entry.what, entry.why, entry.change_id) == ("otto", "corrected: user_id", "a slip", number)
    report = ledger.queries.report(done.import_id)
    assert report is not None
    assert report.sealed


@POSTGRESQL_IN_PROOFS
def test_sent_twice_it_happens_once(ledger: Ledger) -> None:
    """A second click, also with another value, finds the letter closed."""
    first, number = a_letter(ledger)
    done = correct(ledger, number, change_of("ann"))
    assert isinstance(done, Corrected)

    for again in (change_of("ann"), change_of("bob")):
        refused = correct(ledger, number, again)
        assert isinstance(refused, NotCorrected)
        assert f"superseded by change {done.change_id}" in refused.reason
    assert deliver(ledger) == [("ann", "EMAIL|BULK OPTOUT")]
    assert counts(ledger, first) == {"superseded": 1}


@POSTGRESQL_IN_PROOFS
def test_it_loses_to_what_was_said_since(ledger: Ledger) -> None:
    """The person opted in after the letter's time: the opt-out of then is not sent now."""
    _, number = a_letter(ledger)
    imported(ledger, change_of("ann", "OPTIN", 30))
    deliver(ledger)

    done = correct(ledger, number, change_of("ann"))

    assert isinstance(done, Corrected)
    assert done.state is State.SUPERSEDED
    assert deliver(ledger) == []
    assert counts(ledger, done.import_id) == {"superseded": 1}


@POSTGRESQL_IN_PROOFS
def test_the_time_and_the_action_are_the_letters(ledger: Ledger) -> None:
    """Whatever a caller hands over: no correction makes an opt-in of an opt-out, or moves it in time."""
    _, number = a_letter(ledger)
    imported(ledger, change_of("ann", "OPTIN", 30))
    deliver(ledger)

    done = correct(ledger, number, change_of("ann", "OPTIN", 50))

    assert isinstance(done, Corrected)
    assert done.state is State.SUPERSEDED
    assert [one.action for one in ledger.queries.current_values()] == [Action.OPTOUT, Action.OPTIN]


@POSTGRESQL_IN_PROOFS
def test_one_in_its_own_slot_wins_over_it(ledger: Ledger) -> None:
    """Only its reason is altered: the change after it has the same slot and moment, and is the newest."""
    first, number = a_letter(ledger, change_of("ann", reason="x"))

    done = correct(ledger, number, change_of("ann", reason="asked by phone"))

    assert isinstance(done, Corrected)
    assert deliver(ledger) == [("ann", "EMAIL|BULK OPTOUT")]
    assert counts(ledger, first) == {"superseded": 1}
    assert counts(ledger, done.import_id) == {"applied": 1}


@POSTGRESQL_IN_PROOFS
def test_what_nothing_was_altered_of_is_not_sent(ledger: Ledger) -> None:
    """It would only die again: replaying is the way to try it."""
    _, number = a_letter(ledger)
    refused = correct(ledger, number, change_of("anm"))
    assert isinstance(refused, NotCorrected)
    assert "replay" in refused.reason
    assert ledger.queries.letters_page() == [number]


@POSTGRESQL_IN_PROOFS
def test_what_another_file_has_said_already_is_a_duplicate(ledger: Ledger) -> None:
    """Someone corrected the exported row and imported it: the letter is closed by that change, and nothing is sent."""
    first, number = a_letter(ledger)
    fixed = imported(ledger, change_of("ann"))
    deliver(ledger)

    done = correct(ledger, number, change_of("ann"))

    assert isinstance(done, Corrected)
    assert done.state is State.APPLIED
    assert deliver(ledger) == []
    assert counts(ledger, done.import_id) == {"duplicates": 1}
    assert (counts(ledger, first), counts(ledger, fixed)) == ({"superseded": 1}, {"applied": 1})


def test_a_discarded_a_replayed_and_an_unknown_one_are_left_alone(ledger: Ledger) -> None:
    """Each says why."""
    _, number = a_letter(ledger, change_of("anm"), change_of("bpb"))
    letters = ledger.dead_letters
    other = max(ledger.queries.letters_page())
    found = letters.find(letters_of(number))
    letters.discard(found, who="otto", why="x")
    letters.replay(letters.find(letters_of(other)), who="otto", why="x")

    assert correct(ledger, 4711, change_of("ann")) is None
    for one, reason in ((number, "discarded"), (other, "pending")):
        refused = correct(ledger, one, change_of("ann"))
        assert isinstance(refused, NotCorrected)
        assert reason in refused.reason
    assert [who for who, _ in deliver(ledger)] == ["bpb"]


def letters_of(number: int) -> DeadLetterFilter:
    """The filter that means one letter."""
    return DeadLetterFilter(ids=(number,))


@POSTGRESQL_IN_PROOFS
def test_the_same_file_again_changes_nothing(ledger: Ledger) -> None:
    """The wrong row comes again with tomorrow's file: it is known, and does not rise from the dead."""
    a_letter(ledger)
    number = min(ledger.queries.letters_page())
    correct(ledger, number, change_of("ann"))
    deliver(ledger)
    again = imported(ledger, change_of("anm"))
    assert deliver(ledger) == []
    assert counts(ledger, again) == {"duplicates": 1}


def test_a_process_that_dies_before_the_commit_leaves_the_letter(ledger: Ledger) -> None:
    """Nothing of it is there, not even its import; the next try does it."""
    first, number = a_letter(ledger)
    before = len(ledger.queries.imports_page())

    def die(_: object) -> None:
        raise Cut

    event.listen(ledger.database.engine, "commit", die)
    with pytest.raises(Cut):
        correct(ledger, number, change_of("ann"))
    event.remove(ledger.database.engine, "commit", die)

    assert counts(ledger, first) == {"dead": 1}
    assert len(ledger.queries.imports_page()) == before
    assert isinstance(correct(ledger, number, change_of("ann")), Corrected)
    assert deliver(ledger) == [("ann", "EMAIL|BULK OPTOUT")]


@POSTGRESQL_IN_PROOFS
def test_one_of_two_slots_takes_its_place(ledger: Ledger) -> None:
    """A correction of two slots at once: the letter is closed by the one of its own slot."""
    _, number = a_letter(ledger)
    changes = [change_of("ann", slot="MOBILE|BULK"), replace(change_of("ann"), slot="EMAIL|BULK")]
    done = correct(ledger, number, *changes)
    assert isinstance(done, Corrected)
    assert sorted(deliver(ledger)) == [("ann", "EMAIL|BULK OPTOUT"), ("ann", "MOBILE|BULK OPTOUT")]
    assert counts(ledger, done.import_id) == {"applied": 2}
