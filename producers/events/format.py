"""From a message to the changes that it speaks of: plain JSON or CloudEvents 1.0, one or a list or a line each."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from producers.events import cloud
from producers.events.event import LONGEST_EVENT, Event, Said
from producers.events.strict_json import BYTE_ORDER_MARK, named_twice, parse
from producers.record import Fault

NDJSON = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
CLOUDEVENT = "application/cloudevents+json"
CLOUDEVENT_BATCH = "application/cloudevents-batch+json"
MOST_CHANGES = 10_000
"""Changes that one event may speak of: each member of a list that it names is one."""

UNREADABLE = frozenset({"bad_json", "bad_cloudevent", "event_too_large"})
"""Codes of events in which no change can be seen."""


def read(event: Event) -> list[Said | Fault]:
    """Return what an event says, change by change.

    What cannot be read is a fault in its place, so that one bad line of many harms only itself.
    """
    if event.fault is not None:
        return [event.fault]
    if not isinstance(event.body, bytes):
        return [Said(event.body)]
    if len(event.body) > LONGEST_EVENT:
        return [_TOO_LARGE]
    return _changes(event, event.body.removeprefix(BYTE_ORDER_MARK))


def texts(event: Event, count: int) -> list[bytes]:
    """Return the text of each of the `count` changes that `read` has found in an event, in the same order.

    It is the whole event where there is one change, or where it cannot be taken apart.
    """
    text = event.text
    if count == 1 or len(text) > LONGEST_EVENT:
        return [text] * count
    found = _lines(text) if _kind(event) in NDJSON else _members(text)
    return found if len(found) == count else [text] * count


def _changes(event: Event, body: bytes) -> list[Said | Fault]:
    kind = _kind(event)
    if kind in NDJSON:
        lines = _lines(body)
        return [_one(_parsed(line), event) for line in lines] if len(lines) <= MOST_CHANGES else [TOO_MANY]
    is_binary = cloud.is_binary(event.headers)
    if is_binary and kind not in (CLOUDEVENT, CLOUDEVENT_BATCH):  # the type decides, says the binding
        return [cloud.from_headers(event.headers, body)]
    parsed = _parsed(body)
    if is_binary and kind == CLOUDEVENT and isinstance(parsed, dict) and "specversion" not in parsed:
        return [cloud.from_headers(event.headers, body)]  # the type is wrong: this is the data, not its envelope
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
        return Fault("bad_json", f"this is not JSON: look near character {error.pos + 1}")


def _one(parsed: Any, event: Event, *, structured: bool = False) -> Said | Fault:
    if isinstance(parsed, Fault):
        return parsed
    if not isinstance(parsed, dict):
        return _NOT_AN_OBJECT
    if (twice := named_twice(parsed)) is not None:
        return twice
    if structured or "specversion" in parsed or event.headers.get("content-type", "").startswith(CLOUDEVENT_BATCH):
        return cloud.from_object(parsed)
    return Said(parsed)


_TOO_LARGE = Fault("event_too_large", f"an event may have {LONGEST_EVENT} bytes: send the changes in several")
TOO_MANY = Fault(
    "event_too_large",
    f"an event may speak of {MOST_CHANGES} changes, and each member of a list is one: send them in several events",
)
_NOT_AN_OBJECT = Fault("bad_json", 'a change is a JSON object, like {"action": "OPTOUT", …}')
_EMPTY = Fault("bad_json", "the list is empty: send at least one change")
