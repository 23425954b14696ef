"""From an event to the changes in it, or to its errors: its fields under our own names, read like cells of a file.

It is plain JSON or CloudEvents 1.0 (`cloudevents.py`): one change, a list of changes, or one a line.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

import orjson

from consent.change import Action, ConsentChange
from producers.events.cloudevents import BINARY_MARK, from_headers, from_object
from producers.events.event import (
    CLOUDEVENT,
    CLOUDEVENT_BATCH,
    LONGEST_EVENT,
    MOST_CHANGES,
    NDJSON,
    Event,
    EventChange,
)
from producers.parsing.columns import FALLBACK_TIME, OWN_TIME, Vocabulary, vocabulary
from producers.parsing.error_messages import RowError
from producers.parsing.row_parser import ParseContext, RawRecord, parse_record
from producers.parsing.strict_json import BYTE_ORDER_MARK, NamedTwice, parse

Parsed = tuple[ConsentChange, ...] | RowError
"""What became of one change in an event: a change for each slot that it names, or its error."""

_log = logging.getLogger("optrelay.events")
SEPARATOR = "|"
_LOST = "\ufffd"
_MOST_SPELLINGS = 1000


class EventParser:
    """Parses the events of one source one after the other, and numbers what is in them from 1.

    One thread at a time may use it.
    """

    def __init__(self, context: ParseContext) -> None:
        self._context = replace(context, latest=None)  # this may go on for weeks
        self._names = FieldNames(vocabulary(context.rows.values()))
        self._number = 0

    def parse(self, events: Iterable[Event]) -> Iterator[tuple[Event, int, list[Parsed]]]:
        """Yield each event with the number of its first change, and what became of its changes, in their order."""
        for event in events:
            found = self._found(event)
            first, self._number = self._number + 1, self._number + len(found)
            yield event, first, found

    def errors(self, event: Event) -> list[RowError]:
        """Return what is wrong with an event's changes; it gets no number."""
        return [one for one in self._found(event) if isinstance(one, RowError)]

    def _found(self, event: Event) -> list[Parsed]:
        """Parse an event; an error of ours becomes a rejected event, since it would come back for ever otherwise."""
        try:
            changes = read(event)
        except MemoryError:  # not because of this event: fewer at once will do
            raise
        except Exception as error:  # noqa: BLE001 - see above
            return [_our_error(error)]
        found, count = [], 0
        for place, one in enumerate(changes):
            parsed = _allowed(self._safely(one, event, place), event)
            count += 1 if isinstance(parsed, RowError) else len(parsed)
            if count > MOST_CHANGES:
                return [TOO_MANY]
            found.append(parsed)
        return found

    def _safely(self, change: EventChange | RowError, event: Event, place: int) -> Parsed:
        try:
            return self._one(change, event, place)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - the same
            return _our_error(error)

    def _one(self, change: EventChange | RowError, event: Event, place: int) -> Parsed:
        if isinstance(change, RowError):
            return change
        cells = as_cells(change.fields, self._names)
        if isinstance(cells, RowError):
            return cells
        values, spelled = cells
        if change.change_id is not None:
            values["change_id"] = change.change_id
        elif event.key is not None:
            key = f"{event.first + place} {event.key}".encode()
            values.setdefault("change_id", f"key:{sha256(key).hexdigest()}")
        if change.since:
            values[OWN_TIME] = change.since
        elif event.since:
            values[OWN_TIME if event.since_is_own else FALLBACK_TIME] = event.since.isoformat()
        sender = event.sender if change.change_id is None else ""  # a CloudEvent's source and id are unique anywhere
        found = parse_record(RawRecord(values, self._number + 1 + place, sender), self._context, spelled)
        if isinstance(found, RowError) and found.column == FALLBACK_TIME:  # our name for it is not the sender's
            return found._replace(column="time" if change.since else None)
        return found


def _our_error(error: Exception) -> RowError:
    """Log an error of ours by its kind alone: its message may name a person."""
    _log.error("an unexpected error while parsing an event, which is recorded as rejected: %s", type(error).__name__)
    return _OUR_ERROR


_OUR_ERROR = RowError("unreadable_event", "an unexpected error ended the parsing of this event: report it")


def _allowed(parsed: Parsed, event: Event) -> Parsed:
    """Return what an event says, or an error if its sender may not say it."""
    if event.optouts_only and any(one.action is Action.OPTIN for one in parsed if isinstance(one, ConsentChange)):
        return RowError("missing_scope", "this key may send opt-outs only: use one that has the scope write", "action")
    return parsed


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


def as_cells(fields: Mapping[str, Any], names: FieldNames) -> tuple[dict[str, str], dict[str, str]] | RowError:
    """Return what an event says by our names, and its own spelling of each; names that are not ours are left out.

    Lists become `a|b`, numbers and true or false their text, null and empty text nothing.
    """
    cells: dict[str, str] = {}
    spelled: dict[str, str] = {}
    for name, value in fields.items():
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


def read(event: Event) -> list[EventChange | RowError]:
    """Return the changes of an event.

    What cannot be read is an error in its place, so that one bad line of many harms only itself.
    """
    if event.error is not None:
        return [event.error]
    if not isinstance(event.body, bytes):
        return [EventChange(event.body)]
    if len(event.body) > LONGEST_EVENT:
        return [_TOO_LARGE]
    return _changes(event, event.body.removeprefix(BYTE_ORDER_MARK))


def texts_of(event: Event, count: int) -> list[bytes]:
    """Return the text of each of the `count` changes that `read` has found in an event, in the same order.

    It is the whole event where there is one change, or where it cannot be taken apart.
    """
    text = event.text
    if count == 1 or len(text) > LONGEST_EVENT:
        return [text] * count
    found = _lines(text) if _kind(event) in NDJSON else _members(text)
    return found if len(found) == count else [text] * count


def _changes(event: Event, body: bytes) -> list[EventChange | RowError]:
    kind = _kind(event)
    if kind in NDJSON:
        lines = _lines(body)
        return [_one(_parsed(line), event) for line in lines] if len(lines) <= MOST_CHANGES else [TOO_MANY]
    is_binary = BINARY_MARK in event.headers
    if is_binary and kind not in (CLOUDEVENT, CLOUDEVENT_BATCH):  # the type decides, says the binding
        return [from_headers(event.headers, body)]
    parsed = _parsed(body)
    if is_binary and kind == CLOUDEVENT and isinstance(parsed, dict) and "specversion" not in parsed:
        return [from_headers(event.headers, body)]  # the type is wrong: this is the data, not its envelope
    if isinstance(parsed, list) and len(parsed) > MOST_CHANGES:
        return [TOO_MANY]
    if isinstance(parsed, list):
        return [_one(one, event) for one in parsed] or [_EMPTY]
    return [_one(parsed, event, structured=kind == CLOUDEVENT)]


def _kind(event: Event) -> str:
    return event.headers.get("content-type", "").partition(";")[0].strip().lower()


def _lines(text: bytes) -> list[bytes]:
    return [line for line in text.removeprefix(BYTE_ORDER_MARK).splitlines() if line.strip()]


def _members(text: bytes) -> list[bytes]:
    """Take a JSON list apart without rewriting its members: a name twice, or a number's form, must stay as it was."""
    decoded = text.removeprefix(BYTE_ORDER_MARK).decode(errors="surrogateescape").strip()
    found, place = [], 1
    try:
        while (begin := _BETWEEN.match(decoded, place)) and begin.end() < len(decoded) - 1:
            _, place = _DECODER.raw_decode(decoded, begin.end())
            found.append(decoded[begin.end() : place].encode(errors="surrogateescape"))
    except (ValueError, RecursionError):
        return []
    return found


_BETWEEN = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder()


def _parsed(text: bytes) -> Any:
    try:
        return parse(text)
    except orjson.JSONDecodeError as error:
        return RowError("bad_json", f"this is not JSON: look near character {error.pos + 1}")


def _one(parsed: Any, event: Event, *, structured: bool = False) -> EventChange | RowError:
    if isinstance(parsed, RowError):
        return parsed
    if not isinstance(parsed, dict):
        return _NOT_AN_OBJECT
    if isinstance(parsed, NamedTwice):
        return parsed.error
    if structured or "specversion" in parsed or event.headers.get("content-type", "").startswith(CLOUDEVENT_BATCH):
        return from_object(parsed)
    return EventChange(parsed)


_TOO_LARGE = RowError("event_too_large", f"an event may have {LONGEST_EVENT} bytes: send the changes in several")
TOO_MANY = RowError(
    "event_too_large",
    f"an event may hold {MOST_CHANGES} changes, and each member of a list is one: send them in several events",
)
_NOT_AN_OBJECT = RowError("bad_json", 'a change is a JSON object, like {"action": "OPTOUT", …}')
_EMPTY = RowError("bad_json", "the list is empty: send at least one change")
