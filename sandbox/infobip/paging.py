"""Infobip's way to page: `page` from 0, `size` items on each."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sandbox.refused import Refused

Query = dict[str, list[str]]
T = TypeVar("T")


def first(query: Query, name: str) -> str | None:
    """Return the value of a query parameter, if it is there."""
    return query.get(name, [None])[0] if name in query else None


def paged(found: Sequence[T], query: Query, sizes: tuple[int, int], show: Callable[[T], Any]) -> dict[str, Any]:
    """Return one page of what was found; `sizes` are the usual and the greatest number of items on it."""
    usual, greatest = sizes
    page, size = _number(query, "page", 0, None), _number(query, "size", usual, greatest)
    start = page * size
    total = len(found)
    return {
        "results": [show(one) for one in found[start : start + size]],
        "paging": {"page": page, "size": size, "totalPages": -(-total // size), "totalResults": total},
    }


def _number(query: Query, name: str, usual: int, greatest: int | None) -> int:
    # INVENTED: that a number out of range is refused, and how.
    given = first(query, name)
    if given is None:
        return usual
    least = 0 if greatest is None else 1
    if not given.isdecimal() or not least <= int(given) <= (greatest or int(given)):
        raise Refused(400, violations={name: ["is out of range"]})
    return int(given)
