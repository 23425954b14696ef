"""The body of a reply as a JSON object that can be sent back, or nothing."""

from __future__ import annotations

import json
from typing import Any


def json_object(text: str) -> dict[str, Any] | None:
    """Return the object that a body holds; None for anything else.

    An object with what no JSON may hold (half a character, NaN, a number without end) counts as none: it could not be
    sent back.
    """
    try:
        body = json.loads(text)
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None
