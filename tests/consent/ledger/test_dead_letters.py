"""A change that its provider refuses is a dead letter: it says why, and is replayed or discarded once."""

from __future__ import annotations

import pytest

from consent.ledger import dead_letters
from consent.ledger.ledger import Ledger
from consent.outcome import Applied, PermanentFailure
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import BUCKET, change_of, counts, deliver, imported, settlement


def test_a_rejected_change_is_a_dead_letter_with_its_reason(ledger: Ledger) -> None:
    """What cannot be delivered is kept with code, reason, origin and every attempt."""
    import_id = imported(ledger, change_of("404"), change_of("1"))
    tasks = {task.address["user_id"]: task for task in ledger.queue.claim(BUCKET, 5, "delivery", 60)}
    ledger.queue.settle(
        "delivery",
        [
            settlement(tasks["404"], PermanentFailure("1012", "no such customer"), ledger.now()),
            settlement(tasks["1"], Applied(), ledger.now()),
        ],
    )

    [letter] = ledger.dead_letters.find(dead_letters.DeadLetterFilter())

    assert (letter.code, letter.reason, letter.attempts) == ("1012", "no such customer", 1)
    assert (letter.import_id, letter.address) == (import_id, {"user_id": "404"})
    assert len(ledger.dead_letters.attempts_for(letter)) == 1
    assert counts(ledger, import_id) == {"applied": 1, "dead": 1}


def test_a_replayed_letter_is_delivered_once(ledger: Ledger) -> None:
    """Replaying twice sends once, and who did it and why is written down."""
    imported(ledger, change_of("1"))
    deliver(ledger, PermanentFailure("1012", "no such customer"))
    found = ledger.dead_letters.find(dead_letters.DeadLetterFilter(code="1012"))

    first = ledger.dead_letters.replay(found, who="Ada", why="customer created")
    second = ledger.dead_letters.replay(found, who="Ada", why="again")

    assert list(first.values()) == [dead_letters.ReplayEffect.REPLAYED]
    assert second == {}
    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]
    [note] = ledger.dead_letters.audit_log_of(found[0].id)
    assert (note.who, note.what, note.why) == ("Ada", "replayed", "customer created")


@POSTGRESQL_IN_PROOFS
def test_replaying_an_overtaken_letter_sends_nothing(ledger: Ledger) -> None:
    """An old opt-in that died does not come back over a newer opt-out."""
    import_id = imported(ledger, change_of("1", "OPTIN", 0))
    deliver(ledger, PermanentFailure("1012", "no such customer"))
    imported(ledger, change_of("1", "OPTOUT", 5))
    deliver(ledger)

    outcomes = ledger.dead_letters.replay(
        ledger.dead_letters.find(dead_letters.DeadLetterFilter()),
        who="Ada",
        why="",
    )

    assert list(outcomes.values()) == [dead_letters.ReplayEffect.SUPERSEDED]
    assert deliver(ledger) == []
    assert counts(ledger, import_id) == {"superseded": 1}


def test_a_discarded_letter_stays_in_the_history(ledger: Ledger) -> None:
    """Discarded letters are not listed, and not forgotten."""
    imported(ledger, change_of("1"))
    deliver(ledger, PermanentFailure("1012", "no such customer"))
    found = ledger.dead_letters.find(dead_letters.DeadLetterFilter())

    assert ledger.dead_letters.discard(found, who="Ada", why="test data") == 1
    assert ledger.dead_letters.discard(found, who="Ada", why="twice") == 0
    assert ledger.dead_letters.find(dead_letters.DeadLetterFilter()) == []
    assert len(ledger.dead_letters.find(dead_letters.DeadLetterFilter(discarded=True))) == 1


@pytest.mark.parametrize("decide", ["replay", "discard"])
def test_letters_that_others_decide_about_are_not_decided_along(ledger: Ledger, decide: str) -> None:
    """Two persons look at three letters, and one of them is quicker: nothing is done to the other two."""
    imported(ledger, *(change_of(who) for who in "123"))
    deliver(ledger, PermanentFailure("1012", "no such customer"))
    found = ledger.dead_letters.search(dead_letters.DeadLetterFilter())
    ledger.dead_letters.discard(list(found.first(1)), who="Bob", why="closed")

    with pytest.raises(dead_letters.LettersGoneError):
        getattr(ledger.dead_letters, decide)(found, who="Ada", why="", whole=True)

    assert len(ledger.dead_letters.find(dead_letters.DeadLetterFilter())) == 2
    left = ledger.dead_letters.search(dead_letters.DeadLetterFilter())
    assert getattr(ledger.dead_letters, decide)(left, who="Ada", why="", whole=True)
