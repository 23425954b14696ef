"""Reading a request's body: so many bytes and no more, within so many seconds, whatever its headers claim."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from starlette.requests import ClientDisconnect, Request

from producers.events.formats import CLOUDEVENT, CLOUDEVENT_BATCH, NDJSON
from producers.http.problems import Problem

SECONDS = 20.0
"""How long a client may take to send its body."""

MEDIA_TYPES = ("application/json", *NDJSON, CLOUDEVENT, CLOUDEVENT_BATCH)


async def read_body(request: Request, limit: int) -> bytes:
    """Return a body like `read_form`; raise Problem as well unless it is JSON in UTF-8 or a form of it."""
    _check_media_type(request)
    return await read_form(request, limit)


async def read_form(request: Request, limit: int) -> bytes:
    """Return a body of at most `limit` bytes, whatever it is; raise Problem for a longer, a slower or a broken one."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    detail = f"a body may have {limit} bytes: send the changes in several requests"
                    raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", detail)
                parts.append(part)
    except TimeoutError:
        detail = f"the body did not come within {SECONDS:g} seconds"
        raise Problem(HTTPStatus.REQUEST_TIMEOUT, "body_too_slow", detail) from None
    except ClientDisconnect:
        raise Problem(HTTPStatus.BAD_REQUEST, "body_broken_off", "the body broke off") from None
    return b"".join(parts)


def _check_media_type(request: Request) -> None:
    """Raise Problem unless a body is in a form that is read here: JSON in UTF-8, not compressed."""
    kind, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    if (kind.strip() or "application/json") not in MEDIA_TYPES:
        raise _unsupported(f"send one of {', '.join(MEDIA_TYPES)}")
    if "charset=" in parameters and "utf-8" not in parameters and "utf8" not in parameters:
        raise _unsupported("send UTF-8")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise _unsupported("send the body as it is, not compressed")


def _unsupported(detail: str) -> Problem:
    return Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
