"""CloudEvents 1.0: the id that makes one known again, the time that it was said, and the change that it carries.

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
from producers.events.event import Said
from producers.events.strict_json import BYTE_ORDER_MARK, named_twice, parse
from producers.record import Fault

_NEEDED = ("id", "source", "type", "specversion")
_HEADER = "ce-"


def is_binary(headers: Mapping[str, str]) -> bool:
    """Whether a message is a CloudEvent whose attributes stand in its headers."""
    return "ce-specversion" in headers


def from_headers(headers: Mapping[str, str], body: bytes) -> Said | Fault:
    """Return what a CloudEvent in binary mode says; its headers are percent-encoded."""
    attributes: dict[str, Any] = {
        name.removeprefix(_HEADER): unquote(value) for name, value in headers.items() if name.startswith(_HEADER)
    }
    if "content-type" in headers:
        attributes["datacontenttype"] = headers["content-type"]
    return _understood(attributes, lambda: parse(body) if body else None)


def from_object(said: dict[str, Any]) -> Said | Fault:
    """Return what a CloudEvent in structured mode says.

    An attribute that is null is one that was not set, and data may be bytes in base64:
    https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
    """
    told = {name: value for name, value in said.items() if value is not None}
    encoded = told.pop("data_base64", None)
    data = told.pop("data", None)
    if encoded is not None and data is not None:
        return _DATA_TWICE
    return _understood(told, lambda: data if encoded is None else _decoded(encoded))


def identity(source: str, id_: str) -> str:
    """Return the change id of a CloudEvent: source and id together are unique."""
    told = f"{source}\0{id_}".encode()
    return f"ce:{sha256(told).hexdigest()}"  # a hash, for the two may be longer than a change id


def _understood(attributes: dict[str, Any], read_data: Callable[[], Any]) -> Said | Fault:
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
    return _said(event, timed=timed)


def _decoded(encoded: object) -> Any:
    """Return data that came as base64 and is JSON, whatever its content type says; raise ValueError or TypeError."""
    if not isinstance(encoded, str):
        raise TypeError
    return parse(b64decode(encoded, validate=True).removeprefix(BYTE_ORDER_MARK))


def _said(event: BaseCloudEvent, *, timed: bool) -> Said | Fault:
    data = event.get_data()
    if not isinstance(data, dict):
        return _NO_DATA
    if (twice := named_twice(data)) is not None:
        return twice
    time = event.get_time() if timed else None  # without one the package sets the present moment
    since = time.isoformat() if isinstance(time, datetime) else None
    return Said(data, identity(event.get_source(), event.get_id()), since)


def _untimely(error: UnusableTime) -> Fault:
    code = "bad_cloudevent" if error.code == "unreadable_time" else error.code
    return Fault(code, f"the CloudEvent's time cannot be used: {error.message}", "time")


_INCOMPLETE = Fault("bad_cloudevent", "a CloudEvent needs specversion, id, source and type: add what is missing")
_INVALID = Fault("bad_cloudevent", "the CloudEvent's attributes break the specification 1.0: see its validator")
_DATA_TWICE = Fault("bad_cloudevent", "a CloudEvent has either data or data_base64: keep one", "data_base64")
_NO_DATA = Fault("bad_cloudevent", "the CloudEvent's data must be a JSON object with our column names", "data")
