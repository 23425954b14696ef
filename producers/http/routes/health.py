"""/healthz: the process lives. /readyz: it can do its work, with or without the broker. /metrics: how it does it."""

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
from producers.http.admission import AppState, Scope, admit, app_state
from producers.http.openapi import operation_id, problem_responses

_SECONDS = 5.0
_FRESH_SECONDS = 1.0
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
router = APIRouter(generate_unique_id_function=operation_id)


@router.get(
    "/healthz",
    summary="The process lives",
    response_model=responses.Alive,
    response_description="It lives",
    responses=problem_responses(500),
)
async def healthz() -> Response:
    """Say nothing about the ledger: see /readyz."""
    return JSONResponse({"status": "ok"})


@router.get(
    "/readyz",
    summary="Whether changes can be recorded now",
    response_model=responses.Ready,
    response_description="The ledger can be used",
    responses=problem_responses(500)
    | {503: {"model": responses.Ready, "description": "The ledger cannot be used now"}},
)
async def readyz(request: Request) -> Response:
    """Tell how ledger and broker are; changes can be recorded without the broker."""
    kept = request.app.state  # any client may ask, so the answer is kept for a second
    async with kept.readiness_lock:  # of several requests at once, one looks
        if time.monotonic() - kept.readiness_at > _FRESH_SECONDS:
            kept.readiness = await _check(app_state(request))
            kept.readiness_at = time.monotonic()
    ready = kept.readiness["ledger"] == "usable"
    status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    headers = {} if ready else {"retry-after": "5"}
    return JSONResponse({"status": "ready" if ready else "not ready", **kept.readiness}, status, headers)


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Tell Prometheus what stands in the ledger; only to a key with the scope `metrics`, wherever it comes from."""
    state, _ = admit(request, Scope.METRICS)
    return Response(await run_in_threadpool(state.metrics), media_type=_PROMETHEUS)


async def _check(state: AppState) -> dict[str, str]:
    ledger, broker = await asyncio.gather(_within(lambda: _ledger_state(state.ledger)), _within(state.broker_state))
    return {"ledger": ledger, "broker": broker}


def _ledger_state(ledger: Ledger) -> str:
    try:
        ledger.maintenance.check_revision()
    except LedgerError:
        return "unusable"
    return "usable"


async def _within(check: Callable[[], str]) -> str:
    try:
        async with asyncio.timeout(_SECONDS):
            return await run_in_threadpool(check)
    except TimeoutError:
        return "no answer"
