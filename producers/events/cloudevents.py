"""CloudEvents 1.0: from one in structured or in binary mode to the change in it.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any
from urllib.parse import unquote

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.exceptions import BaseCloudEventException
from cloudevents.core.v1.event import CloudEvent

from consent.times import UnusableTime, read_time
from producers.events.event import EventChange
from producers.parsing.error_messages import RowError
from producers.parsing.strict_json import BYTE_ORDER_MARK, NamedTwice, parse

_NEEDED = ("id", "source", "type", "specversion")
_HEADER = "ce-"
BINARY_MARK = f"{_HEADER}specversion"
"""The header of a CloudEvent in binary mode: its attributes stand in headers, and the body is its data."""


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
