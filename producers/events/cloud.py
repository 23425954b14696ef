"""CloudEvents 1.0: the id that makes one known again, the time that it was said, and the change that it carries.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_binary
from cloudevents.core.exceptions import BaseCloudEventException
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from producers.events.event import Said
from producers.record import Fault
from producers.strict_json import named_twice, parse

_NEEDED = ("id", "source", "type", "specversion")


def is_binary(headers: Mapping[str, str]) -> bool:
    """Whether a message is a CloudEvent whose attributes stand in its headers."""
    return "ce-specversion" in headers


def from_headers(headers: Mapping[str, str], body: bytes) -> Said | Fault:
    """Return what a CloudEvent in binary mode says."""
    if any(f"ce-{name}" not in headers for name in _NEEDED):
        return _INCOMPLETE
    try:
        event = from_binary(HTTPMessage(dict(headers), body), _Data(), CloudEvent)
    except (BaseCloudEventException, ValueError):
        return _INVALID
    return _said(event, timed="ce-time" in headers)


def from_object(said: dict[str, Any]) -> Said | Fault:
    """Return what a CloudEvent in structured mode says."""
    if any(name not in said for name in _NEEDED):
        return _INCOMPLETE
    attributes = {name: value for name, value in said.items() if name != "data"}
    try:
        if timed := "time" in attributes:
            attributes["time"] = datetime.fromisoformat(attributes["time"])
        event = CloudEvent(attributes, said.get("data"))
    except (BaseCloudEventException, ValueError, TypeError):
        return _INVALID
    return _said(event, timed=timed)


def identity(source: str, id_: str) -> str:
    """Return the change id of a CloudEvent: source and id together are unique."""
    told = f"{source}\0{id_}".encode()
    return f"ce:{sha256(told).hexdigest()}"  # a hash, for the two may be longer than a change id


class _Data(JSONFormat):
    """Data as JSON whatever its content type says; the package would take what is no JSON for text."""

    def read_data(self, body: bytes, datacontenttype: str | None) -> dict[str, Any] | str | bytes | None:  # noqa: ARG002 - the shape is the package's
        """Parse the data; raise ValueError if it is no JSON."""
        data: dict[str, Any] | str | bytes | None = parse(body) if body else None
        return data


def _said(event: BaseCloudEvent, *, timed: bool) -> Said | Fault:
    data = event.get_data()
    if not isinstance(data, dict):
        return _NO_DATA
    if (twice := named_twice(data)) is not None:
        return twice
    time = event.get_time() if timed else None  # without one the package sets the present moment
    since = time.isoformat() if isinstance(time, datetime) else None
    return Said(data, identity(event.get_source(), event.get_id()), since)


_INCOMPLETE = Fault("bad_cloudevent", "a CloudEvent needs specversion, id, source and type: add what is missing")
_INVALID = Fault("bad_cloudevent", "the CloudEvent's attributes break the specification 1.0: see its validator")
_NO_DATA = Fault("bad_cloudevent", "the CloudEvent's data must be a JSON object with our column names", "data")
