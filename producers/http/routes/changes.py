"""POST /v1/changes: changes in any form of the event format, acknowledged after the commit and not before."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import WithJsonSchema

from producers.events.event import CLOUDEVENT, CLOUDEVENT_BATCH, NDJSON, UNREADABLE, Event
from producers.events.ingest import Result
from producers.http import responses
from producers.http.admission import REQUEST_ID, Scope, Sender, admit_body
from producers.http.openapi import COMPONENTS, KEYED, operation_id, problem_responses
from producers.http.problems import CONTENT_TYPE, Problem

_LONGEST_KEY = 255
_KEPT = frozenset({"content-type", "traceparent"})
_CHANGE = {"$ref": f"{COMPONENTS}Change"}
_CLOUDEVENT = {"$ref": f"{COMPONENTS}CloudEvent"}
_BODIES = {
    "application/json": {"anyOf": [_CHANGE, {"type": "array", "items": _CHANGE, "minItems": 1}]},
    CLOUDEVENT: _CLOUDEVENT,
    CLOUDEVENT_BATCH: {"type": "array", "items": _CLOUDEVENT, "minItems": 1},
    **{kind: {"type": "string", "description": "One change a line"} for kind in NDJSON},
}
_IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Makes the request known again if it names no change_id and is no CloudEvent.",
    ),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": _LONGEST_KEY, "pattern": "^[!-~]+$"}),
]
router = APIRouter(generate_unique_id_function=operation_id)


@router.post(
    "/v1/changes",
    summary="Record changes",
    status_code=HTTPStatus.ACCEPTED,
    response_model=responses.Results,
    response_description="Recorded: what became of each change, in the order in which they were sent",
    responses=problem_responses(400, 401, 403, 408, 413, 415, 429, 500, 503),
    openapi_extra=KEYED
    | {"requestBody": {"required": True, "content": {kind: {"schema": one} for kind, one in _BODIES.items()}}},
)
async def post_changes(request: Request, idempotency_key: _IdempotencyKey = None) -> Response:
    """Send one change, a list of them, one a line, or CloudEvents (structured, batch, or binary with ce- headers).

    Answered after the commit, with what became of each change: accepted, duplicate (known already), or rejected (why,
    and which field). One bad change harms only itself.
    """
    state, sender, body = await admit_body(request, Scope.WRITE, Scope.OPTOUT)
    event = _event(request, sender, body, _hashed(idempotency_key))
    results = await state.batch_writer.record(event, len(body))
    answer: responses.Results = {"results": [_as_json(one) for one in results]}
    if all(one.code in UNREADABLE for one in results):
        problem = _unreadable(results)
        return JSONResponse({**problem, **answer}, problem["status"], media_type=CONTENT_TYPE)
    return JSONResponse(answer, HTTPStatus.ACCEPTED)


def _event(request: Request, sender: Sender, body: bytes, key: str | None) -> Event:
    headers = {name: value for name, value in request.headers.items() if name in _KEPT or name[:3] == "ce-"}
    known_by = f"request {request.scope[REQUEST_ID]}" if key is None else f"Idempotency-Key {key[:16]}"
    place = f"POST /v1/changes, key {sender.name}, {known_by}"
    only_out = Scope.WRITE not in sender.may
    by = f"key {sender.name}"
    return Event(
        body, headers, place=place, key=key, sender=sender.scope, is_answered=True, optouts_only=only_out, sent_by=by
    )


def _hashed(key: str | None) -> str | None:
    """Return the request's Idempotency-Key as a hash: it may name a person."""
    if key is None:
        return None
    if not 0 < len(key) <= _LONGEST_KEY:
        detail = f"an Idempotency-Key has 1 to {_LONGEST_KEY} characters"
        raise Problem(HTTPStatus.BAD_REQUEST, "unusable_idempotency_key", detail)
    return sha256(key.encode()).hexdigest()


def _as_json(result: Result) -> responses.Result:
    answer: responses.Result = {
        "status": result.status,
        "id": result.ids[0] if result.ids else None,
        "code": result.code,
        "message": result.message,
    }
    if len(result.ids) > 1:
        answer["ids"] = list(result.ids)
    if result.field is not None:
        answer["field"] = result.field
    return answer


def _unreadable(results: Sequence[Result]) -> dict[str, Any]:
    code, detail = (results[0].code, results[0].message) if results else ("bad_json", "the body is empty")
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if code == "event_too_large" else HTTPStatus.BAD_REQUEST
    return {"type": "about:blank", "title": status.phrase, "status": status.value, "code": code, "detail": detail}
