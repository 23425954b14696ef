"""/healthz: the process lives. /readyz: it can do its work, which needs the ledger and does not need the broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from consent.errors import LedgerError
from consent.ledger.ledger import Ledger
from producers.http.parts import Parts, parts_of

_SECONDS = 5.0
_FRESH_SECONDS = 1.0


async def healthz(_request: Request) -> Response:
    """Say that the process lives and answers."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Say whether the ledger can be used, and how the broker is; anybody may ask, so the answer is kept a second."""
    state = request.app.state
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
