"""/healthz: the process lives. /readyz: it can do its work, which needs the ledger and does not need the broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from consent.errors import LedgerError
from consent.ledger.ledger import Ledger
from producers.http import responses
from producers.http.openapi import operation_id, problems
from producers.http.parts import Parts, parts_of

_SECONDS = 5.0
_FRESH_SECONDS = 1.0
router = APIRouter(generate_unique_id_function=operation_id)


@router.get(
    "/healthz",
    summary="The process lives",
    response_model=responses.Alive,
    response_description="It lives",
    responses=problems(500),
)
async def healthz() -> Response:
    """Say nothing about the ledger: see /readyz."""
    return JSONResponse({"status": "ok"})


@router.get(
    "/readyz",
    summary="Whether changes can be recorded now",
    response_model=responses.Ready,
    response_description="The ledger can be used",
    responses=problems(500) | {503: {"model": responses.Ready, "description": "The ledger cannot be used now"}},
)
async def readyz(request: Request) -> Response:
    """Tell how ledger and broker are; changes can be recorded without the broker."""
    state = request.app.state  # any client may ask, so the answer is kept for a second
    async with state.readiness_lock:  # of several who ask at once, one looks
        if time.monotonic() - state.readiness_at > _FRESH_SECONDS:
            state.readiness = await _look(parts_of(request))
            state.readiness_at = time.monotonic()
    ready = state.readiness["ledger"] == "usable"
    status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    headers = {} if ready else {"retry-after": "5"}
    return JSONResponse({"status": "ready" if ready else "not ready", **state.readiness}, status, headers)


async def _look(parts: Parts) -> dict[str, str]:
    ledger, broker = await asyncio.gather(_within(lambda: _ledger_state(parts.ledger)), _within(parts.broker_state))
    return {"ledger": ledger, "broker": broker}


def _ledger_state(ledger: Ledger) -> str:
    try:
        ledger.database.check_revision()
    except LedgerError:
        return "unusable"
    return "usable"


async def _within(look: Callable[[], str]) -> str:
    try:
        async with asyncio.timeout(_SECONDS):
            return await run_in_threadpool(look)
    except TimeoutError:
        return "no answer"
