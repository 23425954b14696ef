"""The circuit breaker as values: what opens it, how long until the next probe, and what closes it."""

from __future__ import annotations

import pytest

from consent.change import Bucket
from consent.errors import ConfigurationError
from consent.ledger.ledger import Ledger
from consent.ledger.queue.breakers import Breaker, BucketHealth
from consent.outcome import Health, Healthy, Throttled, Unauthorized, Unavailable
from tests.support.clock import Clock
from worker.delivery import breaker
from worker.delivery.breaker import FAILURES_TO_OPEN, Observations

BUCKET = Bucket("capillary")
NAME = str(BUCKET)
DOWN, REFUSED, WELL = Unavailable("bad gateway"), Unauthorized("403"), Healthy()
SECOND = 1_000_000


def delivery(books: Ledger, *answers: tuple[Health, int, bool]) -> BucketHealth:
    """One delivery that drew these answers; return how the bucket is afterwards."""
    before, seen = books.breakers.health_of(NAME), Observations()
    for health, target, served in answers:
        seen.note(health, (target,), served=(target,) if served else (), at=books.now())
    breaker.conclude(books, before, seen)
    return books.breakers.health_of(NAME)


@pytest.mark.parametrize(
    ("answers", "then"),
    [
        ([], Breaker.CLOSED),
        ([(WELL, 1, True)], Breaker.CLOSED),
        ([(DOWN, 1, False)], Breaker.CLOSED),
        ([(DOWN, n, False) for n in range(1, FAILURES_TO_OPEN + 1)], Breaker.DOWN),
        ([(WELL, 9, True), *((DOWN, n, False) for n in range(1, FAILURES_TO_OPEN + 1))], Breaker.CLOSED),
        ([(REFUSED, 1, False)], Breaker.REFUSED),
        ([(REFUSED, 1, False), (WELL, 2, True)], Breaker.CLOSED),
        ([(WELL, 2, True), (REFUSED, 1, False)], Breaker.CLOSED),
        ([(Throttled(), 1, False)], Breaker.DOWN),
        ([(WELL, 2, True), (Throttled(), 1, False)], Breaker.DOWN),
    ],
)
def test_what_opens_it(books: Ledger, answers: list[tuple[Health, int, bool]], then: Breaker) -> None:
    """A delivery in which a customer was served opens nothing, unless the provider asked us to slow down."""
    assert delivery(books, *answers).breaker is then


def test_failures_of_small_deliveries_add_up(books: Ledger) -> None:
    """A bucket with one customer at a time is found to be down as well."""
    found = [delivery(books, (DOWN, 1, False)).breaker for _ in range(FAILURES_TO_OPEN)]

    assert found == [Breaker.CLOSED] * (FAILURES_TO_OPEN - 1) + [Breaker.DOWN]


def test_a_customer_who_is_served_closes_it(books: Ledger, clock: Clock) -> None:
    """The probe served another customer: the reason, the trips and the suspects are gone."""
    delivery(books, (REFUSED, 1, False))
    clock.forward(5)

    found = delivery(books, (WELL, 2, True))

    assert (found.breaker, found.reason, found.trips, found.suspects) == (Breaker.CLOSED, None, 0, ())
    assert (found.served_id, found.healthy_at) == (2, clock.micros)


@pytest.mark.parametrize(
    ("kind", "trips", "enough", "seconds"),
    [
        (Breaker.DOWN, 0, 3, 1.0),
        (Breaker.DOWN, 3, 3, 8.0),
        (Breaker.DOWN, 4, 3, 10.0),
        (Breaker.DOWN, 1_000, 3, 10.0),
        (Breaker.REFUSED, 0, 3, 0.5),
        (Breaker.REFUSED, 2, 3, 2.0),
        (Breaker.REFUSED, 3, 3, 15.0),
        (Breaker.REFUSED, 5, 6, 4.0),
        (Breaker.REFUSED, 6, 6, 15.0),
        (Breaker.REFUSED, 1_000, 3, 300.0),
    ],
)
def test_probes_come_ever_more_seldom(kind: Breaker, trips: int, enough: int, seconds: float) -> None:
    """Short until several customers drew the same refusal, then up to five minutes; ten seconds while it is down."""
    assert breaker._seconds_to_probe(kind, trips, enough) == seconds


@pytest.mark.parametrize(
    ("healthy_at", "opened_at", "openings"),
    [(None, None, 3), (None, 90 * SECOND, 3), (10 * SECOND, 60 * SECOND, 6), (10 * SECOND, 80 * SECOND, 3)],
)
def test_openings_until_a_refusal_is_the_connections(
    healthy_at: int | None, opened_at: int | None, openings: int
) -> None:
    """Three; six where a customer was served less than a minute before."""
    found = BucketHealth(NAME, Breaker.REFUSED, opened_at=opened_at, healthy_at=healthy_at)

    assert breaker.openings_to_confirm(found) == openings


def test_the_same_refused_customers_do_not_make_others_wait(books: Ledger, clock: Clock) -> None:
    """However often only they are called: the next customer's probe stays seconds away."""
    for _ in range(8):
        found = delivery(books, (REFUSED, 1, False))
        clock.forward(400)

    assert found.probe_at - (clock.micros - 400 * SECOND) <= 4 * SECOND


def test_an_outage_makes_probes_wait_for_ten_seconds_at_most(books: Ledger, clock: Clock) -> None:
    """Each opening counts one trip, and half of a wait at least passes."""
    waits = []
    for number in range(8):
        found = delivery(books, *((DOWN, number * 10 + n, False) for n in range(1, FAILURES_TO_OPEN + 1)))
        waits.append((found.probe_at - clock.micros) / SECOND)
        clock.forward(400)

    assert all(0.5 <= wait <= 10 for wait in waits)
    assert waits[-1] >= 5
    assert found.trips == 8


@pytest.mark.parametrize(
    ("found", "may"),
    [
        (BucketHealth(NAME), True),
        (BucketHealth(NAME, throttled_until=11), False),
        (BucketHealth(NAME, throttled_until=10), True),
        (BucketHealth(NAME, Breaker.DOWN, probe_at=11), False),
        (BucketHealth(NAME, Breaker.DOWN, probe_at=10), True),
        (BucketHealth(NAME, Breaker.REFUSED, probe_at=10, throttled_until=11), False),
    ],
)
def test_when_a_worker_is_woken(found: BucketHealth, *, may: bool) -> None:
    """Not while it is throttled, and not before the next probe."""
    assert breaker.may_call(found, 10) is may
    assert found.is_open is (found.breaker is not Breaker.CLOSED)


def test_one_process_wins_the_probe(books: Ledger, clock: Clock) -> None:
    """Another may try once the winner's time is over."""
    delivery(books, (REFUSED, 1, False))
    clock.forward(5)
    found = books.breakers.health_of(NAME)

    assert [breaker.win_probe(books, found, 10) for _ in range(3)] == [True, False, False]
    clock.forward(10)
    assert breaker.win_probe(books, found, 10)


def test_an_error_that_no_call_explains_stops_the_bucket(books: Ledger, clock: Clock) -> None:
    """For one second at first; only where it came from is shown, because a message may hold what is private."""
    reason = breaker.note_error(books, BUCKET, ValueError("jane.roe@example.com"))
    first = books.breakers.health_of(NAME)
    breaker.note_error(books, BUCKET, ValueError("jane.roe@example.com"))
    clock.forward(2)
    breaker.note_error(books, BUCKET, ValueError("jane.roe@example.com"))
    second = books.breakers.health_of(NAME)

    assert "example.com" not in reason
    assert (first.breaker, first.probe_at - (clock.micros - 2 * SECOND)) == (Breaker.DOWN, SECOND)
    assert (second.trips, second.probe_at - clock.micros) == (2, 2 * SECOND)
    assert breaker.note_error(books, BUCKET, ConfigurationError("set the password")) == "set the password"


def test_an_error_that_no_call_explains_is_told_and_tried_again_ever_more_seldom(books: Ledger) -> None:
    """Nothing was sent all night, a thousand tracebacks a minute were written, and `status` said "ready"."""
    waits = []
    for _ in range(4):
        with pytest.raises(KeyError) as caught:
            {}["jane.doe@example.com"]
        reason = breaker.note_error(books, BUCKET, caught.value)
        found = books.breakers.health_of(NAME)
        waits.append(round((found.probe_at - books.now()) / 1_000_000))
        books.breakers.take_probe(NAME, now=found.probe_at, until=0)

    assert "jane.doe" not in reason
    assert reason.startswith("the worker failed: KeyError in test_breaker.py:")
    assert (found.breaker, found.reason) == (Breaker.DOWN, reason)
    assert waits == [1, 2, 4, 8]
