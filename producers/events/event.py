"""An event as it leaves its source, and its fields under our own names, as cells of a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from consent.change import Action, ConsentChange
from consent.imports import MOST_KEPT, EventContent
from producers.parsing.columns import Vocabulary
from producers.parsing.error_messages import RowError

LONGEST_EVENT = 1024 * 1024
"""Bytes of the longest event that is read; a longer one is refused."""


@dataclass(frozen=True, slots=True)
class Event:
    """One message of a source: bytes that should be JSON, or fields under our column names.

    * `headers`: its headers or properties with lower-case names (`content-type`, `ce-id`, …).
    * `place`: where it stands in its source, always the same, so that a rejected one is recorded once.
    * `since`: when it was published, for changes that name no time; `since_is_own` says that its sender wrote that.
    * `sender`: the scope in which its ids are unique.
    * `key`: the id of an event whose changes have none, together with the place of the change, counted from `first`.
    * `error`: why the source could not even read it.
    * `receipt`: what the source needs to acknowledge it.
    * `is_answered`: its sender waits for an answer, which says if nothing in it can be read.
    * `told_by`: the name of the API key that it came by ("": its source is told by one sender alone).
    * `optouts_only`: its sender may opt out and nothing else.
    """

    body: bytes | Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    place: str | None = None
    since: datetime | None = None
    key: str | None = field(default=None, repr=False)
    since_is_own: bool = False
    sender: str = ""
    error: RowError | None = None
    receipt: object = field(default=None, repr=False, compare=False)
    first: int = 0
    is_answered: bool = False
    optouts_only: bool = False
    told_by: str = ""

    @property
    def size(self) -> int:
        """How many bytes it is, roughly."""
        if isinstance(self.body, bytes):
            return len(self.body)
        return sum(len(name) + len(value) for name, value in self.body.items())

    @property
    def text(self) -> bytes:
        """The event as bytes; flat fields as a JSON object, in which bytes that are no UTF-8 stay what they are."""
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps(dict(self.body), ensure_ascii=False).encode(errors="surrogateescape")

    def where(self, place: int) -> str | None:
        """Say where one of its changes stands in its source."""
        position = self.first + place
        return f"{self.place}, change {position + 1}" if self.place is not None and position else self.place

    def content(self, text: bytes, place: int) -> EventContent:
        """Return what is kept of one of its changes that was rejected: this text, and what its sender said with it."""
        source = (self.since, self.key, self.first + place, self.since_is_own, self.sender)
        return EventContent(text[:MOST_KEPT], len(text), self.headers, *source)


class EventChange(NamedTuple):
    """One change in an event: fields under any spelling of our names, and the id and time of its envelope.

    `change_id` makes it known again and overrules the fields; `since` holds if they name no time (ISO 8601).
    """

    fields: Mapping[str, Any]
    change_id: str | None = None
    since: str | None = None


def allowed(parsed: tuple[ConsentChange, ...] | RowError, event: Event) -> tuple[ConsentChange, ...] | RowError:
    """Return what an event says, or an error if its sender may not say it."""
    if event.optouts_only and any(one.action is Action.OPTIN for one in parsed if isinstance(one, ConsentChange)):
        return RowError("missing_scope", "this key may send opt-outs only: use one that has the scope write", "action")
    return parsed


SEPARATOR = "|"
_LOST = "\ufffd"
_MOST_SPELLINGS = 1000


class FieldNames:
    """Our name for each spelling of a field that events use; what was found once is not looked for again."""

    def __init__(self, known: Vocabulary) -> None:
        self._known = known
        self._found: dict[str, str | None] = {}

    def find(self, name: str) -> str | None:
        """Return our name for a spelling, None if it is not ours."""
        if name not in self._found:
            if len(self._found) >= _MOST_SPELLINGS:
                self._found.clear()  # someone invents names: they must not fill our memory
            self._found[name] = self._known.find(name)
        return self._found[name]


def as_cells(said: Mapping[str, Any], names: FieldNames) -> tuple[dict[str, str], dict[str, str]] | RowError:
    """Return what an event says by our names, and its own spelling of each; names that are not ours are left out.

    Lists become `a|b`, numbers and true or false their text, null and empty text nothing.
    """
    cells: dict[str, str] = {}
    spelled: dict[str, str] = {}
    for name, value in said.items():
        if (ours := names.find(name)) is None:
            continue
        cell = value.strip() if isinstance(value, str) else _cell(value)
        if cell is None:
            return RowError("unusable_value", "write text, a whole number, true or false, or a list of these", name)
        if not (cell.isascii() and cell.isprintable()) and _is_damaged(cell):
            return RowError("bad_encoding", "some characters are damaged: send the value again as UTF-8", name)
        if ours in spelled:
            return RowError("named_twice", f"{spelled[ours]} and {name} mean the same: keep one", name)
        spelled[ours] = name
        if cell:
            cells[ours] = cell
    return cells, spelled


def _is_damaged(cell: str) -> bool:
    """Whether a text has lost a character, or has one that no database takes: NUL, half of a surrogate pair."""
    return any(one in {_LOST, "\0"} or "\ud800" <= one <= "\udfff" for one in cell)


def _cell(value: object) -> str | None:
    if not isinstance(value, list):
        return _scalar(value)
    members = [_scalar(one) for one in value]
    if any(member is None or SEPARATOR in member for member in members):
        return None
    return SEPARATOR.join(member for member in members if member)


def _scalar(value: object) -> str | None:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return value.strip()
        case int():
            return str(value)
        case _:
            return None
