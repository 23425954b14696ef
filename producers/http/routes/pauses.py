"""What is not to be delivered for now: GET /v1/pauses, POST /v1/connections/{connection}/pause and /resume."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from consent.change import Lane
from consent.deadlines.forecast import QUARTER
from consent.errors import LedgerError
from consent.ledger.ledger import Ledger
from consent.ledger.review.pauses import Pause
from consent.times import from_micros
from producers.http import responses
from producers.http.admission import AppState, Scope, admit, admit_body
from producers.http.openapi import KEYED, operation_id, problem_responses
from producers.http.problems import Problem, ledger_away

T = TypeVar("T")
_LONGEST_BODY = 10_000
_LONGEST_WHY = 1_000
_PROBLEMS = problem_responses(400, 401, 403, 404, 408, 413, 415, 429, 500, 503)


def _body(only: str, means: str) -> dict[str, Any]:
    fields = {
        "why": {"type": "string", "minLength": 1, "maxLength": _LONGEST_WHY},
        "bucket": {"type": "string", "description": "only this rate limit of the connection, by its name in `status`"},
        "only": {"type": "string", "enum": [only], "description": means},
    }
    schema = {"type": "object", "required": ["why"], "additionalProperties": False, "properties": fields}
    return KEYED | {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


router = APIRouter(generate_unique_id_function=operation_id)


@router.get(
    "/v1/pauses",
    summary="What is paused",
    response_model=responses.Pauses,
    response_description="Since when, who paused it and why",
    responses=problem_responses(401, 403, 429, 500, 503),
    openapi_extra=KEYED,
)
async def get_pauses(request: Request) -> Response:
    """Tell the connections, buckets and opt-ins that are not delivered for now. The key needs the scope pause."""
    state, _ = admit(request, Scope.PAUSE)
    found = await _on_ledger(state.ledger.pauses.current)
    return JSONResponse({"pauses": [one.as_json() for one in found]})


@router.post(
    "/v1/connections/{connection}/pause",
    summary="Deliver nothing of a connection for now",
    response_model=responses.Paused,
    response_description="The pause that holds now, and the opt-outs that it holds back",
    responses=_PROBLEMS,
    openapi_extra=_body("optins", "opt-outs go on"),
)
async def post_pause(request: Request, connection: str) -> Response:
    """Pause all of it, one of its buckets, or opt-ins alone; what is paused stays pending. Twice changes nothing.

    A paused opt-out is a late opt-out: `opt_outs_waiting` counts the customers who wait for one now, and
    `first_deadline` is the first of theirs. The key needs the scope pause; its name and `why` are in the audit log.
    """
    state, asked = await _asked(request, connection, "optins")

    def work() -> dict[str, Any]:
        found, is_new = state.ledger.pauses.pause(
            connection, asked.bucket, only_optins=asked.is_limited, who=asked.who, why=asked.why
        )
        return {"done": "paused" if is_new else None, "pause": found.as_json()} | _waiting(state.ledger, found)

    return JSONResponse(await _on_ledger(work))


@router.post(
    "/v1/connections/{connection}/resume",
    summary="Let what was paused be delivered",
    response_model=responses.Resumed,
    response_description="The pauses that have ended; none if nothing was paused",
    responses=_PROBLEMS,
    openapi_extra=_body("optouts", "opt-ins stay paused"),
)
async def post_resume(request: Request, connection: str) -> Response:
    """Resume all of it, one of its buckets, or opt-outs alone; twice changes nothing. The key needs the scope pause."""
    state, asked = await _asked(request, connection, "optouts")

    def work() -> list[Pause]:
        return state.ledger.pauses.resume(
            connection, asked.bucket, only_optouts=asked.is_limited, who=asked.who, why=asked.why
        )

    ended = await _on_ledger(work)
    return JSONResponse({"done": "resumed" if ended else None, "resumed": [one.as_json() for one in ended]})


class _Asked(NamedTuple):
    """What a request asks for; `is_limited` says that it is about one direction only."""

    who: str
    why: str
    bucket: str | None
    is_limited: bool


async def _asked(request: Request, connection: str, only: str) -> tuple[AppState, _Asked]:
    state, sender, body = await admit_body(request, Scope.PAUSE, limit=_LONGEST_BODY)
    try:
        fields = orjson.loads(body)
    except ValueError:
        raise _bad("send a JSON object with why") from None
    if not isinstance(fields, dict) or fields.keys() - {"why", "bucket", "only"}:
        raise _bad("send a JSON object with why, and bucket or only if you mean a part")
    why, bucket, direction = fields.get("why"), fields.get("bucket"), fields.get("only")
    if not isinstance(why, str) or not why.strip() or len(why) > _LONGEST_WHY or "\0" in why:
        raise _bad(f"why says why, in 1 to {_LONGEST_WHY} characters")
    if direction not in (None, only):
        raise _bad(f"only is {only}, or left out")
    await _check_known(state, connection, bucket)
    return state, _Asked(f"key {sender.name}", why, bucket, direction is not None)


async def _check_known(state: AppState, connection: str, bucket: object) -> None:
    """Raise Problem unless there is this connection, and it has this bucket: a mistyped one would pause nothing."""
    ledger = state.ledger
    paused = await _on_ledger(ledger.pauses.current)
    if connection not in {*state.context.rows, *(one.connection for one in paused)}:
        raise Problem(HTTPStatus.NOT_FOUND, "unknown_connection", "there is no connection of this name")
    if bucket is None:
        return
    known = await _on_ledger(lambda: {*ledger.pauses.known_buckets(connection), *ledger.queries.buckets(connection)})
    if bucket not in {one.name for one in known}:
        raise Problem(HTTPStatus.NOT_FOUND, "unknown_bucket", "the connection has no bucket of this name")


def _waiting(ledger: Ledger, pause: Pause) -> dict[str, Any]:
    """Return how many customers wait with an opt-out because of a pause, and the first of their deadlines."""
    cells = [
        cell
        for bucket, its in ledger.deadlines.open_cells().items()
        for cell in its
        if not pause.only_optins and pause.covers(bucket) and cell.lane <= Lane.BULK_OPTOUT
    ]
    first = min((cell.quarter for cell in cells), default=None)
    due = None if first is None else from_micros(first * QUARTER).isoformat()
    return {"opt_outs_waiting": sum(cell.targets for cell in cells), "first_deadline": due}


async def _on_ledger(work: Callable[[], T]) -> T:
    try:
        return await run_in_threadpool(work)
    except LedgerError:
        raise ledger_away() from None


def _bad(detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "bad_pause", detail)
