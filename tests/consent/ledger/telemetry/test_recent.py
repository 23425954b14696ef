"""What was settled in each quarter of an hour, and how many waited: what the page draws; on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from consent.deadlines.forecast import QUARTER
from consent.ledger.ledger import Ledger
from consent.ledger.telemetry.recent import KEPT
from consent.ledger.telemetry.tallies import SETTLED_THEN, WAITED_THEN
from consent.outcome import PermanentFailure
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import change_of, deliver, imported


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1_960_000 * QUARTER + 5

    def __call__(self) -> int:
        """Tell the time in microseconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Five microseconds into a quarter of an hour."""
    return Clock()


@pytest.fixture
def ledger(ledger_url: str, clock: Clock) -> Iterator[Ledger]:
    """A ledger of this clock."""
    found = Ledger(ledger_url, clock=clock)
    yield found
    found.close()


def test_outcomes_stand_in_the_quarter_in_which_they_were_settled(ledger: Ledger, clock: Clock) -> None:
    """However late, and however often, they are added up; another ledger object sees the same."""
    imported(ledger, *(change_of(f"p{n}") for n in range(5)))
    deliver(ledger, limit=3)
    clock.now += QUARTER
    deliver(ledger, PermanentFailure("1012", "not there"), limit=1)
    clock.now += QUARTER
    for _ in range(2):
        assert ledger.counters.add_up()
    *_, first, second, third = ledger.recent.last_hours(1)
    assert (first.at, first.outcomes, first.waiting) == (1_960_000 * QUARTER, {"applied": 3}, None)
    assert (second.outcomes, second.waiting) == ({"dead": 1}, None)
    assert (third.outcomes, third.waiting) == ({}, 1)
    assert len(ledger.recent.last_hours(1)) == 4


@POSTGRESQL_IN_PROOFS
def test_the_last_look_of_a_quarter_stands(ledger: Ledger, clock: Clock) -> None:
    """Customers that wait are not added up."""
    imported(ledger, change_of("ann"), change_of("bob"))
    ledger.counters.add_up()
    deliver(ledger, limit=1)
    ledger.counters.add_up()
    clock.now += 3 * QUARTER
    assert [one.waiting for one in ledger.recent.last_hours(1)] == [1, None, None, None]


def test_what_is_old_is_forgotten_and_no_metric_shows_it(ledger: Ledger, clock: Clock) -> None:
    """A series for each quarter of an hour would have no end."""
    imported(ledger, change_of("ann"))
    deliver(ledger)
    ledger.counters.add_up()
    assert sum(one.outcomes.get("applied", 0) for one in ledger.recent.last_hours(48)) == 1
    assert "changes" in ledger.counters.tallies()
    assert not {SETTLED_THEN, WAITED_THEN} & ledger.counters.tallies().keys()
    clock.now += (KEPT + 1) * QUARTER
    ledger.counters.add_up()
    assert all(not one.outcomes for one in ledger.recent.last_hours(100))
