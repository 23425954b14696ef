"""What only one at a time may do: brokers that give out calls, and runs; on both databases, by a clock in hand."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consent.ledger.ledger import Ledger
from consent.ledger.queue.leases import Lease
from tests.support.clock import Clock

INTERVAL = 12.0
_numbers = count()
steps = st.lists(
    st.tuples(
        st.sampled_from(("one", "two", "three")),
        st.sampled_from(("reserves", "reserves", "reserves", "ends")),
        st.floats(0.0, 20.0),
        st.floats(0.1, 30.0),
    ),
    min_size=2,
    max_size=25,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=steps)
def test_brokers_give_out_calls_one_after_the_other(ledger: Ledger, clock: Clock, steps: list[tuple]) -> None:
    """Whichever broker asks when, what two of them give out lies an interval apart: a limit is never kept twice.

    A broker that ends shortens what it gave out to that moment; one that is killed does not.
    """
    bucket = f"capillary/{next(_numbers)}"  # no one has ever called in it
    given_out: dict[str, float] = {}
    for owner, what, pause, ahead in steps:
        clock.forward(pause)
        now = clock() / 1e6
        if what == "ends":
            ledger.leases.end_reservations(f"{bucket} {owner}", now=clock())
            if owner in given_out:
                given_out[owner] = min(given_out[owner], now)
            continue
        until = clock() + int(ahead * 1e6)
        wait = ledger.leases.reserve_ahead(bucket, f"{bucket} {owner}", INTERVAL, now=clock(), until=until)
        others = [end for name, end in given_out.items() if name != owner]
        if wait == 0.0:
            assert all(now >= end + INTERVAL for end in others)
            given_out[owner] = max(given_out.get(owner, 0.0), until / 1e6)
        else:
            assert now < max(others) + INTERVAL + 1, "no broker waits for nothing"
            assert now + wait >= max(others) + INTERVAL - 0.001
            assert wait < 30 + INTERVAL + 1, "nor for long"


def test_a_lease_has_one_holder_until_it_ends(ledger: Ledger, clock: Clock) -> None:
    """Two runs at once are two limits; a run that is gone must not keep others out for ever."""

    def taken(token: str, dead: str = "") -> str | None:
        wanted = Lease("run", f"machine of {token}", token, clock() + 15_000_000)
        other = ledger.leases.take_lease(wanted, now=clock(), dead=dead)
        return None if other is None else other.holder

    assert ledger.leases.holder_of("run", now=clock()) is None
    assert taken("first") is None
    found = ledger.leases.holder_of("run", now=clock())
    assert found is not None
    assert (found.holder, ledger.leases.holder_of("run", now=found.until)) == ("machine of first", None)
    assert taken("second") == "machine of first"
    clock.forward(10)
    assert taken("first") is None, "it prolongs its own"
    clock.forward(10)
    assert taken("second") == "machine of first"
    clock.forward(6)
    assert taken("second") is None
    assert taken("first") == "machine of second"
    assert taken("first", dead="second") is None

    ledger.leases.give_up_lease(Lease("run", "", "second", 0))
    assert taken("third") == "machine of first", "what is not held cannot be given up"
    ledger.leases.give_up_lease(Lease("run", "", "first", 0))
    assert taken("third") is None


@pytest.mark.parametrize("seconds", [60.0, 365 * 86_400.0])
def test_a_reservation_of_the_far_future_is_one_of_a_wrong_clock(ledger: Ledger, clock: Clock, seconds: float) -> None:
    """A clock that was a year ahead for a moment would stop all calls for a year."""
    ledger.leases.reserve_ahead("capillary", "one", INTERVAL, now=clock(), until=clock() + int(seconds * 1e6))

    wait = ledger.leases.reserve_ahead("capillary", "two", INTERVAL, now=clock(), until=clock())
    clock.forward(wait)

    assert 0 < wait < 60
    assert ledger.leases.reserve_ahead("capillary", "two", INTERVAL, now=clock(), until=clock()) == 0.0
