"""Which changes share a call: those that failed often travel in smaller batches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.providers.capillary import change
from worker.providers.batching import SHARED_TRIES, batches, failed_ones_alone, halves

ATTEMPTS = st.lists(st.integers(0, 12), max_size=60)


@given(ATTEMPTS, st.integers(1, 1024))
def test_batches_hold_each_item_once(attempts: list[int], most: int) -> None:
    """Nothing is lost or sent twice, no batch is longer than allowed, and what failed often is in small ones."""
    items = list(enumerate(attempts))
    found = list(batches(items, most, lambda item: item[1]))

    assert sorted(item for batch in found for item in batch) == items
    assert all(0 < len(batch) <= most for batch in found)
    assert all(len(batch) == 1 for batch in found if most <= 8 and max(n for _, n in batch) >= SHARED_TRIES)


def test_a_thousand_are_alone_after_eight_attempts() -> None:
    """A batch shrinks to an eighth with each failure beyond the tolerated ones."""
    sizes = [max(map(len, batches([tries] * 1000, 1000, int))) for tries in range(8)]

    assert sizes == [1000, 1000, 1000, 125, 15, 1, 1, 1]


def test_failed_ones_travel_alone() -> None:
    """The changes of one target share a call until one of them has failed often."""
    fresh, other, tired = change(1), change(2), change(3, attempts=SHARED_TRIES)

    assert failed_ones_alone([fresh, tired, other]) == [[fresh, other], [tired]]
    assert failed_ones_alone([tired]) == [[tired]]


@given(ATTEMPTS)
def test_halves(items: list[int]) -> None:
    """Two halves are the whole, and the first is never the shorter one."""
    first, second = halves(items)

    assert [*first, *second] == items
    assert 0 <= len(first) - len(second) <= 1
