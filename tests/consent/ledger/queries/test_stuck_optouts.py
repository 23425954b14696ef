"""Opt-outs that wait for a person while their time runs out; on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest

from consent.deadlines.rules import HISTORIC
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.ledger import Ledger
from consent.ledger.review.holds import Decision
from consent.outcome import PermanentFailure
from consent.times import to_micros
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import MORNING, change_of, deliver, guarded, imported, run_of

NO = PermanentFailure("1012", "Capillary cannot find this customer")
ANN = Decision("ann", "checked")


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, ledger: Ledger):
    """Set the ledger's clock to so many hours after the morning of which the changes tell."""

    def clock(hours: float) -> None:
        monkeypatch.setattr(ledger, "now", lambda: to_micros(MORNING + timedelta(hours=hours)))

    clock(1)
    return clock


def stuck(ledger: Ledger) -> list[tuple[str, str, int, int, int]]:
    """State and rule, and how many are open, due within a day, and late."""
    found = ledger.queries.stuck_optouts()
    return [(one.state, one.rule, one.open, one.due_in_24h, one.late) for one in found]


@POSTGRESQL_IN_PROOFS
def test_a_dead_opt_out_goes_on_being_due(ledger: Ledger, at) -> None:
    """Two died: the one that is discarded, and the one after which the person opted in, are counted no more."""
    imported(ledger, *(change_of(who) for who in ("ann", "bob", "cem")), change_of("dan", "OPTIN"))
    deliver(ledger, NO)
    assert stuck(ledger) == [("dead", "gmail-48h", 3, 0, 0)]
    at(30)
    assert stuck(ledger) == [("dead", "gmail-48h", 3, 3, 0)]
    at(49)
    assert stuck(ledger) == [("dead", "gmail-48h", 3, 0, 3)]

    ledger.intake.accept_events(run_of(ledger), [change_of("bob", "OPTIN", 5)], [])
    assert stuck(ledger) == [("dead", "gmail-48h", 2, 0, 2)]
    ledger.dead_letters.discard(ledger.dead_letters.find(DeadLetterFilter()), who="ann", why="gone")
    assert stuck(ledger) == []


@POSTGRESQL_IN_PROOFS
def test_no_more_are_counted_than_are_asked_for(ledger: Ledger) -> None:
    """A page that is looked at every few seconds does not count a million; it says that there are more."""
    imported(ledger, *(change_of(who) for who in ("ann", "bob", "cem")))
    deliver(ledger, NO)

    assert [(one.open, one.at_least) for one in ledger.queries.stuck_optouts(2)] == [(2, True)]
    assert [(one.open, one.at_least) for one in ledger.queries.stuck_optouts(4)] == [(3, False)]


def test_a_held_opt_out_goes_on_being_due(ledger: Ledger, at) -> None:
    """Of a held file, wholly or in part; not one that a newer change overtakes or the provider holds already."""
    imported(ledger, change_of("ann"), change_of("eve", "OPTOUT"), change_of("fay", "OPTIN", 30))
    deliver(ledger)
    changes = [
        change_of("ann", "OPTIN", 10),
        change_of("bob", "OPTOUT", 10),
        change_of("eve", "OPTOUT", 10),
        change_of("fay", "OPTOUT", 10),
    ]
    held = guarded(ledger, *changes, resurrects_most=0)
    assert stuck(ledger) == [("held", "gmail-48h", 1, 0, 0)]
    at(60)
    assert stuck(ledger) == [("held", "gmail-48h", 1, 0, 1)]

    assert (first := ledger.queries.stuck_optouts()[0].first_due) is not None
    assert first == to_micros(MORNING + timedelta(hours=48, minutes=10))
    ledger.review.approve(held, Decision("ann", "checked", changes[0].action))
    ledger.intake.publish(held)
    assert stuck(ledger) == [("held", "gmail-48h", 1, 0, 1)]
    ledger.review.withdraw(held, ANN)
    assert stuck(ledger) == []


@POSTGRESQL_IN_PROOFS
def test_a_historic_one_is_never_late(ledger: Ledger, at) -> None:
    """What was lifted out of another system and died is counted as open, and breaches nothing."""
    at(40 * 24)
    imported(ledger, change_of("ann"))
    deliver(ledger, NO)
    at(80 * 24)
    assert stuck(ledger) == [("dead", HISTORIC, 1, 0, 0)]
