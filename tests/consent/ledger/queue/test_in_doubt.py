"""A call that may still be under way: nothing else is sent to its customer meanwhile, but the same may be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consent.ledger.ledger import Ledger
from consent.ledger.queue.tasks import CustomerTask, Settlement
from consent.outcome import Retry
from tests.support.clock import Clock
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import BUCKET, change_of, deliver, imported, settlement


def left_in_doubt(ledger: Ledger, *, cut: bool = True) -> None:
    """Call the customer who is due, and hear nothing: for 30 s the provider may still be at it."""
    [task] = ledger.queue.claim(BUCKET, 1, "delivery", 60)
    ledger.queue.settle("delivery", [unanswered(ledger, task, cut=cut)])


def unanswered(ledger: Ledger, task: CustomerTask, *, cut: bool = True) -> Settlement:
    """One call for all of a task's changes, of which nothing is heard."""
    one = settlement(task, Retry("cut" if cut else "timed_out", "no answer", counts=False), ledger.now())
    return replace(one, in_doubt_until=ledger.now() + 30_000_000, may_repeat=cut)


@pytest.mark.parametrize("cut", [False, True])
def test_after_a_call_without_answer_a_newer_change_waits(ledger: Ledger, clock: Clock, *, cut: bool) -> None:
    """The provider may still be at it, so even a newer change waits; otherwise the older one could land last."""
    imported(ledger, change_of("1", "OPTIN", 0))
    left_in_doubt(ledger, cut=cut)

    imported(ledger, change_of("1", "OPTOUT", 5))

    assert deliver(ledger) == []

    clock.forward(31)

    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]


def test_after_a_call_that_timed_out_no_one_calls_for_a_while(ledger: Ledger, clock: Clock) -> None:
    """A provider that is slow is not asked twice at once, not even for the same change."""
    imported(ledger, change_of("1", "OPTOUT"))
    left_in_doubt(ledger, cut=False)

    assert deliver(ledger) == []

    clock.forward(31)

    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]


@POSTGRESQL_IN_PROOFS
def test_the_same_change_is_sent_again_soon_where_its_call_was_cut(ledger: Ledger) -> None:
    """An opt-out whose call was cut goes out again at once: whichever call lands last says the same."""
    imported(ledger, change_of("1", "OPTOUT"))
    left_in_doubt(ledger)

    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]


@POSTGRESQL_IN_PROOFS
def test_a_doubt_outlives_the_change_that_was_sent_again(ledger: Ledger, clock: Clock) -> None:
    """Once it has been applied a newer change comes: it waits for the first call, which may still land."""
    imported(ledger, change_of("1", "OPTIN", 0))
    left_in_doubt(ledger)
    assert deliver(ledger) == [("1", "EMAIL|BULK OPTIN")]

    imported(ledger, change_of("1", "OPTOUT", 5))

    assert deliver(ledger) == []

    clock.forward(31)

    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]


@POSTGRESQL_IN_PROOFS
def test_a_change_of_another_slot_waits_for_the_doubt_with_the_one_that_is_in_doubt(
    ledger: Ledger, clock: Clock
) -> None:
    """One call may carry both, and only what was in doubt may be repeated."""
    imported(ledger, change_of("1", "OPTIN"))
    left_in_doubt(ledger)

    imported(ledger, change_of("1", "OPTOUT", slot="SMS|BULK"))

    assert deliver(ledger) == []

    clock.forward(31)

    assert sorted(deliver(ledger)) == [("1", "EMAIL|BULK OPTIN"), ("1", "SMS|BULK OPTOUT")]


def test_a_doubt_that_is_over_is_forgotten(ledger: Ledger, clock: Clock) -> None:
    """The sweep removes those of customers who are never called again."""
    imported(ledger, change_of("1", "OPTOUT"))
    left_in_doubt(ledger)
    assert deliver(ledger)

    assert ledger.queue.forget_doubts() == 0
    clock.forward(31)
    assert ledger.queue.forget_doubts() == 1


def test_a_newer_change_is_not_repeated_while_an_older_call_is_in_doubt_too(ledger: Ledger, clock: Clock) -> None:
    """A worker that lost its lease made a late call; the newer one was cut as well, and repeating it proves nothing.

    It could be applied, and the older call land afterwards.
    """
    imported(ledger, change_of("1", "OPTIN", 0), change_of("2", "OPTIN", 0))
    older = ledger.queue.claim(BUCKET, 2, "stopped delivery", 60)
    clock.forward(61)
    imported(ledger, change_of("1", "OPTOUT", 5), change_of("2", "OPTOUT", 5))
    newer = ledger.queue.claim(BUCKET, 2, "delivery", 60)

    ledger.queue.settle("stopped delivery", [unanswered(ledger, task) for task in older])
    ledger.queue.settle("delivery", [unanswered(ledger, task) for task in newer])

    assert deliver(ledger) == []

    clock.forward(31)

    assert sorted(deliver(ledger)) == [("1", "EMAIL|BULK OPTOUT"), ("2", "EMAIL|BULK OPTOUT")]
