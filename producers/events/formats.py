"""From a message to the changes in it: plain JSON or CloudEvents 1.0; one change, a list of changes, or one a line.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any
from urllib.parse import unquote

import orjson
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.exceptions import BaseCloudEventException
from cloudevents.core.v1.event import CloudEvent

from consent.times import UnusableTime, read_time
from producers.events.event import LONGEST_EVENT, Event, EventChange
from producers.parsing.error_messages import RowError
from producers.parsing.strict_json import BYTE_ORDER_MARK, NamedTwice, parse

NDJSON = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
CLOUDEVENT = "application/cloudevents+json"
CLOUDEVENT_BATCH = "application/cloudevents-batch+json"
MOST_CHANGES = 10_000
"""Changes that one event may hold: each member of a list that it names is one."""

UNREADABLE = frozenset({"bad_json", "bad_cloudevent", "event_too_large"})
"""Codes of events in which no change can be seen."""


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


def texts(event: Event, count: int) -> list[bytes]:
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
    is_binary = is_binary_event(event.headers)
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


_NEEDED = ("id", "source", "type", "specversion")
_HEADER = "ce-"


def is_binary_event(headers: Mapping[str, str]) -> bool:
    """Whether a message is a CloudEvent whose attributes stand in its headers."""
    return "ce-specversion" in headers


def from_headers(headers: Mapping[str, str], body: bytes) -> EventChange | RowError:
    """Return what a CloudEvent in binary mode says; its headers are percent-encoded."""
    attributes: dict[str, Any] = {
        name.removeprefix(_HEADER): unquote(value) for name, value in headers.items() if name.startswith(_HEADER)
    }
    if "content-type" in headers:
        attributes["datacontenttype"] = headers["content-type"]
    return _from_attributes(attributes, lambda: parse(body) if body else None)


def from_object(envelope: dict[str, Any]) -> EventChange | RowError:
    """Return what a CloudEvent in structured mode says.

    An attribute that is null is one that was not set, and data may be bytes in base64:
    https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
    """
    attributes = {name: value for name, value in envelope.items() if value is not None}
    encoded = attributes.pop("data_base64", None)
    data = attributes.pop("data", None)
    if encoded is not None and data is not None:
        return _DATA_TWICE
    return _from_attributes(attributes, lambda: data if encoded is None else _decoded(encoded))


def cloudevent_change_id(source: str, id_: str) -> str:
    """Return the change id of a CloudEvent: source and id together are unique."""
    both = f"{source}\0{id_}".encode()
    return f"ce:{sha256(both).hexdigest()}"  # a hash, for the two may be longer than a change id


def _from_attributes(attributes: dict[str, Any], read_data: Callable[[], Any]) -> EventChange | RowError:
    if any(name not in attributes for name in _NEEDED):
        return _INCOMPLETE
    try:
        if timed := "time" in attributes:
            attributes["time"] = read_time(attributes["time"])
        event = CloudEvent(attributes, read_data())
    except UnusableTime as error:
        return _untimely(error)
    except (BaseCloudEventException, ValueError, TypeError):
        return _INVALID
    return _from_event(event, timed=timed)


def _decoded(encoded: object) -> Any:
    """Return data that came as base64 and is JSON, whatever its content type says; raise ValueError or TypeError."""
    if not isinstance(encoded, str):
        raise TypeError
    return parse(b64decode(encoded, validate=True).removeprefix(BYTE_ORDER_MARK))


def _from_event(event: BaseCloudEvent, *, timed: bool) -> EventChange | RowError:
    data = event.get_data()
    if not isinstance(data, dict):
        return _NO_DATA
    if isinstance(data, NamedTwice):
        return data.error
    time = event.get_time() if timed else None  # without one the package sets the present moment
    since = time.isoformat() if isinstance(time, datetime) else None
    return EventChange(data, cloudevent_change_id(event.get_source(), event.get_id()), since)


def _untimely(error: UnusableTime) -> RowError:
    code = "bad_cloudevent" if error.code == "unreadable_time" else error.code
    return RowError(code, f"the CloudEvent's time cannot be used: {error.message}", "time")


_INCOMPLETE = RowError("bad_cloudevent", "a CloudEvent needs specversion, id, source and type: add what is missing")
_INVALID = RowError("bad_cloudevent", "the CloudEvent's attributes break the specification 1.0: see its validator")
_DATA_TWICE = RowError("bad_cloudevent", "a CloudEvent has either data or data_base64: keep one", "data_base64")
_NO_DATA = RowError("bad_cloudevent", "the CloudEvent's data must be a JSON object with our column names", "data")
