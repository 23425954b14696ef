"""POST /v1/changes: changes in any form of the event format, acknowledged after the commit and not before."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from producers.events.event import Event
from producers.events.format import UNREADABLE
from producers.events.intake import Result
from producers.http.body import check_media_type, read_body
from producers.http.keys import Sender
from producers.http.parts import REQUEST_ID, admit, parts_of
from producers.http.problem import CONTENT_TYPE, Problem

KEY_HEADER = "idempotency-key"
LONGEST_KEY = 255


async def post_changes(request: Request) -> Response:
    """Record what a body says; answer with what became of each change."""
    sender = admit(request)
    check_media_type(request)
    parts = parts_of(request)
    key = _idempotency_key(request)
    body = await read_body(request, parts.body_limit)
    results = await parts.gatherer.record(_event(request, sender, body, key), len(body))
    told = {"results": [_told(one) for one in results]}
    if all(one.code in UNREADABLE for one in results):
        problem = _unreadable(results)
        return JSONResponse(problem | told, problem["status"], media_type=CONTENT_TYPE)
    return JSONResponse(told, HTTPStatus.ACCEPTED)


def _event(request: Request, sender: Sender, body: bytes, key: str | None) -> Event:
    headers = {name: value for name, value in request.headers.items() if name == "content-type" or name[:3] == "ce-"}
    told_by = f"request {request.scope[REQUEST_ID]}" if key is None else f"Idempotency-Key {key[:16]}"
    place = f"POST /v1/changes, key {sender.name}, {told_by}"
    return Event(body, headers, place=place, key=key, sender=sender.scope, is_answered=True)


def _idempotency_key(request: Request) -> str | None:
    """Return the request's Idempotency-Key as a hash: it may name a person."""
    key = request.headers.get(KEY_HEADER)
    if key is None:
        return None
    if not 0 < len(key) <= LONGEST_KEY:
        detail = f"an Idempotency-Key has 1 to {LONGEST_KEY} characters"
        raise Problem(HTTPStatus.BAD_REQUEST, "unusable_idempotency_key", detail)
    return sha256(key.encode()).hexdigest()


def _told(result: Result) -> dict[str, Any]:
    told: dict[str, Any] = {
        "status": result.status,
        "id": result.ids[0] if result.ids else None,
        "code": result.code,
        "message": result.message,
    }
    if len(result.ids) > 1:
        told["ids"] = list(result.ids)
    if result.field is not None:
        told["field"] = result.field
    return told


def _unreadable(results: Sequence[Result]) -> dict[str, Any]:
    code, detail = (results[0].code, results[0].message) if results else ("bad_json", "the body is empty")
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if code == "event_too_large" else HTTPStatus.BAD_REQUEST
    return {"type": "about:blank", "title": status.phrase, "status": status.value, "code": code, "detail": detail}
