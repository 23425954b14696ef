"""Who shares a call with whom: what failed often travels in smaller company, so that a poisonous one harms few."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

SHARED_TRIES = 3
"""After so many answers the company grows smaller."""

_SHRINKS_BY = 8

T = TypeVar("T")


def companies(items: Sequence[T], most: int, attempts: Callable[[T], int]) -> Iterator[tuple[T, ...]]:
    """Split items into groups of at most `most`, an eighth of that for each failure beyond the tolerated ones.

    With eight attempts and a thousand items that ends with each alone, after some thirty calls and not a thousand.
    """
    by_size: dict[int, list[T]] = {}
    for item in items:
        failures = max(0, attempts(item) - SHARED_TRIES + 1)
        by_size.setdefault(max(1, most // _SHRINKS_BY**failures), []).append(item)
    for size, alike in by_size.items():
        for start in range(0, len(alike), size):
            yield tuple(alike[start : start + size])


def halves(items: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    """Split items in two, to find out which half holds what is not accepted."""
    middle = (len(items) + 1) // 2
    return items[:middle], items[middle:]
