"""Properties of AMQP messages that cannot be read: such a message must come through, or it would come for ever."""

from __future__ import annotations

import struct
from typing import Any

from amqp import serialization
from amqp.exceptions import AMQPError

UNREADABLE = "optrelay-unreadable"
"""The property that stands in for those which could not be read."""

_BASIC = 60
_decode = serialization.PROPERTY_CLASSES[_BASIC]


def forgive_unreadable_properties() -> None:
    """Let the library hand over messages whose properties it cannot read, such as a time in the year 50000.

    Without this it raises in the middle of the connection's frames: the message was not handed to anybody, the broker
    delivers it again after the reconnection, and nothing behind it is ever read. The library has no hook for it.
    """
    serialization.PROPERTY_CLASSES[_BASIC] = _forgiving


def _forgiving(buf: bytes, offset: int) -> tuple[dict[str, Any], int]:
    try:
        found: tuple[dict[str, Any], int] = _decode(buf, offset)
    except (ValueError, OverflowError, OSError, LookupError, TypeError, struct.error, AMQPError):
        return {"type": UNREADABLE}, offset
    return found
