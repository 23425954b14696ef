"""JSON in which one name twice in an object can be seen: parsers keep the last one, and an opt-out becomes an opt-in.

RFC 8259 section 4: what a reader makes of an object whose names are not unique is unpredictable.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import orjson

from producers.parsing.error_messages import RowError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What some publishers write before a text; RFC 8259 section 8.1 lets a reader skip it."""


class NamedTwice(dict[str, Any]):
    """A JSON object that gives a value to one name twice; `error` names the first such name."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        self.error = RowError("named_twice", "this name stands twice in one JSON object: keep one", twice)


def parse(text: bytes) -> Any:
    """Return the value of a JSON text in UTF-8; objects that name something twice are `NamedTwice`.

    Raises orjson.JSONDecodeError for what is not JSON. The second look costs about 3 µs for a change.
    """
    parsed = orjson.loads(text)
    decoded = text.decode()
    try:
        _CHECKING.decode(decoded)
    except _Twice:
        parsed = _MARKING.decode(decoded)
    except RecursionError:
        raise orjson.JSONDecodeError("nested too deeply", decoded, 0) from None
    return parsed


def parse_text(text: str) -> Any | RowError:
    """Return the value of a JSON text with each number as it is written, or the fault of a name that stands twice.

    Raises ValueError for what is not JSON, RecursionError for what is nested too deeply.
    """
    try:
        return _AS_WRITTEN.decode(text)
    except _Twice:
        return named_twice_anywhere(_MARKING.decode(text))


def named_twice_anywhere(value: object) -> RowError | None:
    """Return the fault of the first object with one name twice, however deep it lies in a value."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, NamedTwice):
            return one.error
        left.extend(reversed(one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()))
    return None


class _Twice(Exception):
    """An object names something twice."""


def _check(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise _Twice


def _mark(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    return named if len(named) == len(pairs) else NamedTwice(pairs)


def _number(text: str) -> int | float:
    """Read a whole number like orjson does: one beyond 64 bits is a float."""
    return int(text) if len(text) < _MOST_DIGITS else float(text)


_MOST_DIGITS = 19
_CHECKING = json.JSONDecoder(object_pairs_hook=_check, parse_int=str, parse_float=str)
_MARKING = json.JSONDecoder(object_pairs_hook=_mark, parse_int=_number)


def _no_number(_: str) -> float:
    raise ValueError  # NaN and Infinity are no JSON


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) != len(pairs):
        raise _Twice
    return named


_AS_WRITTEN = json.JSONDecoder(object_pairs_hook=_unique, parse_int=str, parse_float=str, parse_constant=_no_number)
