"""Which changes share a call: those that failed often travel in smaller batches, so that a bad one harms few."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from consent.ledger.queue.tasks import ClaimedChange

SHARED_TRIES = 3
"""After so many answers a change shares its calls with fewer others."""

_SHRINKS_BY = 8

T = TypeVar("T")


def batches(items: Sequence[T], most: int, attempts: Callable[[T], int]) -> Iterator[tuple[T, ...]]:
    """Split items into batches of at most `most`, an eighth of that for each failure beyond the tolerated ones.

    With eight attempts and a thousand items that ends with each alone, after some thirty calls and not a thousand.
    """
    by_size: dict[int, list[T]] = {}
    for item in items:
        failures = max(0, attempts(item) - SHARED_TRIES + 1)
        by_size.setdefault(max(1, most // _SHRINKS_BY**failures), []).append(item)
    for size, alike in by_size.items():
        for start in range(0, len(alike), size):
            yield tuple(alike[start : start + size])


def failed_ones_alone(changes: Sequence[ClaimedChange]) -> list[Sequence[ClaimedChange]]:
    """Split the few changes of one target: those that failed often each by itself, the others together."""
    together = [change for change in changes if change.attempts < SHARED_TRIES]
    alone = [[change] for change in changes if change.attempts >= SHARED_TRIES]
    return [group for group in (together, *alone) if group]


def halves(items: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    """Split items in two, to find out which half holds what is not accepted."""
    middle = (len(items) + 1) // 2
    return items[:middle], items[middle:]
