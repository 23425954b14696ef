"""Two writes for one customer at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.sandbox.calling import Caller, Starting


def _together(capillary: Caller, *users: str) -> list[int]:
    with ThreadPoolExecutor(len(users)) as pool:
        return sorted(reply.status_code for reply in pool.map(capillary.write, users))


def test_the_second_write_of_a_customer_in_flight_is_521(capillary: Caller) -> None:
    """The second is refused, counted, and nothing of it is held."""
    capillary.fault("latency", delay=0.2)

    assert _together(capillary, "1001", "1001") == [200, 521]
    assert (capillary.stats()["overlaps"], capillary.rows()[0]["seq"]) == (1, 1)


def test_different_customers_may_be_written_at_once(capillary: Caller) -> None:
    """Only writes of the same customer overlap."""
    capillary.fault("latency", delay=0.1)

    assert _together(capillary, "1001", "1002", "1003") == [200, 200, 200]
    assert capillary.stats()["overlaps"] == 0


@pytest.mark.parametrize("latency", [(0.1, 0.1)])
def test_overlaps_are_counted_even_when_they_are_let_through(start: Starting, latency: tuple[float, float]) -> None:
    """With `busy_521` off both writes pass, and the overlap is still counted."""
    capillary = start(busy_521=False, latency=latency)

    assert _together(capillary, "1001", "1001") == [200, 200]
    assert capillary.stats()["overlaps"] == 1
