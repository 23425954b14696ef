"""The body of a reply as a JSON object that can be sent back, or nothing."""

from __future__ import annotations

import json
from typing import Any


def without_mark(text: str) -> str:
    """Return a text without the byte order mark that some servers and gateways put before it (RFC 8259, 8.1)."""
    return text.removeprefix("\ufeff")


def json_object(text: str) -> dict[str, Any] | None:
    """Return the object that a body holds; None for anything else.

    An object with what no JSON may hold (half a character, NaN, a number without end) counts as none: it could not be
    sent back.
    """
    try:
        body = json.loads(without_mark(text))
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None
