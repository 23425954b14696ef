"""What an AMQP message holds: its body, the headers of a CloudEvent, when it was published.

CloudEvents in binary mode carry their attributes in headers named `ce-type`, `cloudEvents:type` or `cloudEvents_type`:
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/amqp-protocol-binding.md
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from amqp import serialization
from amqp.exceptions import AMQPError
from cloudevents.core.bindings.common import encode_header_value

UNREADABLE = "optrelay-unreadable"
"""The property that stands in for those which could not be read."""

_BASIC = 60
_LATEST_TIMESTAMP = 100_000_000_000  # the year 5138: a greater one is in milliseconds
_PREFIXES = ("ce-", "cloudevents:", "cloudevents_")
_decode = serialization.PROPERTY_CLASSES[_BASIC]


def accept_unreadable_properties() -> None:
    """Let the library hand over messages whose properties it cannot read, such as a time in the year 50000.

    Without this it raises in the middle of the connection's frames: the message reaches no consumer, the broker
    delivers it again after the reconnection, and nothing behind it is ever read. The library has no hook for it.
    """
    serialization.PROPERTY_CLASSES[_BASIC] = _decode_or_mark


def _decode_or_mark(buf: bytes, offset: int) -> tuple[dict[str, Any], int]:
    try:
        found: tuple[dict[str, Any], int] = _decode(buf, offset)
    except (ValueError, OverflowError, OSError, LookupError, TypeError, struct.error, AMQPError):
        return {"type": UNREADABLE}, offset
    return found


def body_of(message: Any) -> bytes:
    """Return a message's body as bytes."""
    return message.body.encode(errors="surrogateescape") if isinstance(message.body, str) else bytes(message.body)


def headers_of(message: Any) -> Iterator[tuple[str, str]]:
    """Give a message's headers under lower-case names, a CloudEvent's attributes as HTTP would write them."""
    if message.content_type:
        yield "content-type", str(message.content_type)
    for name, value in message.headers.items():
        prefix = next((one for one in _PREFIXES if name.lower().startswith(one)), None)
        if prefix is not None:
            attribute = name.lower().removeprefix(prefix)
            yield f"ce-{attribute}", encode_header_value(_attribute(attribute, value))


def _attribute(name: str, value: object) -> object:
    """Return an attribute's value; AMQP may write a time as milliseconds, and its own times have no zone."""
    match value:
        case datetime():
            return value.replace(tzinfo=UTC)
        case bool():
            return str(value).lower()
        case int() if name == "time":
            with suppress(ValueError, OverflowError, OSError):
                return datetime.fromtimestamp(value / 1000, UTC)
    return value


def published_at(message: Any) -> datetime | None:
    """Return when a message was published; None unless its timestamp is in seconds, as the protocol demands."""
    timestamp = message.properties.get("timestamp")
    if not isinstance(timestamp, int) or not 0 < timestamp < _LATEST_TIMESTAMP:
        return None
    return datetime.fromtimestamp(timestamp, UTC)


def printable(id_: str) -> str:
    """Return an id as it may be shown."""
    return "".join(one if one.isprintable() else "?" for one in id_)
