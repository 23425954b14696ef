"""Where rejected events stand, and which person they are about: what a command says beside ids and filters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from consent.errors import ConfigurationError
from consent.imports import EventContent
from consent.ledger.ledger import Ledger
from consent.ledger.rejected_events import RejectedFilter
from consent.settings import Settings
from console.commands.ledger.history import person_ways, ways_of
from console.commands.ledger.status import find_import
from producers.parsing.columns import KNOWN, plain

_LISTED = 10
_OURS = {plain(name): name for name in KNOWN}


def id_at(ledger: Ledger, which: str) -> int:
    """Return the id that is meant: by itself, by the place in its source, or as IMPORT:NUMBER.

    A place may be said in part: `entry 3-0, change 2`, `entry 3-0` or `3-0`. Raises ConfigurationError if it means
    none, or several.
    """
    asked = which.strip()
    if asked.isascii() and asked.isdecimal():
        return int(asked)
    found = [
        one.id
        for one in ledger.rejected_events.search(RejectedFilter(closed=True, place=asked))
        if _is_at(one.place, asked)
    ]
    import_id, _, number = asked.rpartition(":")
    if not found and import_id and number.isascii() and number.isdecimal():
        its = RejectedFilter(closed=True, import_id=find_import(ledger, import_id).import_id, line=int(number))
        found = list(ledger.rejected_events.search(its).ids)
    if not found:
        raise ConfigurationError(
            f"no rejected event stands at {which!r}: `rejected-events list --closed` shows ids and places"
        )
    if len(found) > 1:
        listed = ", ".join(map(str, found[:_LISTED])) + (", …" if len(found) > _LISTED else "")
        raise ConfigurationError(f"{len(found)} rejected events stand at {which!r}: name one by its id: {listed}")
    return found[0]


def _is_at(place: str | None, asked: str) -> bool:
    """Whether a place is, or has as a whole part, what was asked; `3-0` is no part of `entry 3-01`."""
    parts = (place or "").casefold().split(", ")
    wanted = asked.casefold()
    return f", {wanted}, " in f", {', '.join(parts)}, " or any(part.rpartition(" ")[2] == wanted for part in parts)


class PersonInEvents:
    """Says of events whether they are about a person, in whatever spelling; raises ConfigurationError."""

    def __init__(self, settings: Settings, columns: Sequence[str]) -> None:
        """Take columns like `destination=ann@example.com`; all of them must fit."""
        self._settings = settings
        self._ways = person_ways(settings, columns)
        self._columns = {name for way in self._ways for name in way}

    def __call__(self, content: EventContent) -> bool:
        """Whether an event is about the person; what is no JSON is looked through as text."""
        try:
            body = orjson.loads(content.body)
        except orjson.JSONDecodeError:
            text = content.body.decode(errors="replace").casefold()
            return any(all(value.casefold() in text for value in way.values()) for way in self._ways)
        return any(way in self._ways for one in _objects(body) for way in self._named_by(one))

    def _named_by(self, one: dict[str, Any]) -> list[dict[str, str]]:
        ours = {_OURS.get(plain(name), name): value for name, value in one.items()}
        given = {
            name: str(value).strip()
            for name, value in ours.items()
            if name in self._columns and isinstance(value, str | int) and not isinstance(value, bool)
        }
        return ways_of(self._settings, given) if given else []


def _objects(body: Any) -> Iterator[dict[str, Any]]:
    """Give all objects in a JSON value, however deep."""
    left = [body]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            yield one
            left.extend(one.values())
        elif isinstance(one, list):
            left.extend(one)
