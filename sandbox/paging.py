"""Long lists, page by page or line by line."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
_LINES_AT_ONCE = 500


def page(items: Sequence[T], asked: Mapping[str, str]) -> tuple[Sequence[T], int | None]:
    """Return `limit` items (1000) from position `offset` (0), and the offset of the next page if there is one."""
    start, count = int(asked.get("offset", "0")), int(asked.get("limit", "1000"))
    if start < 0 or count < 1:
        raise ValueError("offset starts at 0 and limit at 1")
    following = start + count
    return items[start:following], following if following < len(items) else None


async def lines(items: Sequence[T], as_json: Callable[[T], Any]) -> AsyncIterator[str]:
    """Give every item as one line of JSON, some hundreds at a time, so that calls are answered in between."""
    for start in range(0, len(items), _LINES_AT_ONCE):
        yield "".join(f"{json.dumps(as_json(item))}\n" for item in items[start : start + _LINES_AT_ONCE])
        await asyncio.sleep(0)
