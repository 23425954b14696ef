"""GET /v1/changes/{id} and /v1/imports/{id}: what became of a change, and of everything that came with it."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from consent.change import from_micros
from consent.errors import LedgerError
from consent.ledger.one_change import ChangeReport, find_change
from producers.http.parts import admit, parts_of
from producers.http.problem import Problem, ledger_away

T = TypeVar("T")


async def get_change(request: Request) -> Response:
    """Tell what became of one change, and nobody's address."""
    admit(request)
    database, id_ = parts_of(request).ledger.database, request.path_params["id"]
    found = await _looked(lambda: find_change(database, id_))
    if found is None:
        raise _unknown("change")
    return JSONResponse(change_as_json(found))


async def get_import(request: Request) -> Response:
    """Tell the counts of one import, as `optrelay status IMPORT --json` does."""
    admit(request)
    report, id_ = parts_of(request).import_report, request.path_params["id"]
    found = await _looked(lambda: report(id_))
    if found is None:
        raise _unknown("import")
    return JSONResponse(found)


async def _looked(look: Callable[[], T]) -> T:
    try:
        return await run_in_threadpool(look)
    except LedgerError:
        raise ledger_away() from None


def _unknown(what: str) -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, f"unknown_{what}", f"there is no {what} with this id")


def change_as_json(found: ChangeReport) -> dict[str, Any]:
    """Return a change as programs read it: what became of it, where it came from, and nobody's address."""
    return {
        "id": found.id,
        "state": found.state.value,
        "superseded_by": found.superseded_by,
        "code": found.code,
        "reason": found.reason,
        "connection": found.connection,
        "slot": found.slot,
        "action": found.action,
        "effective_at": from_micros(found.effective_at).isoformat(),
        "recorded_at": from_micros(found.recorded_at).isoformat(),
        "settled_at": from_micros(found.settled_at).isoformat() if found.settled_at is not None else None,
        "attempts": found.attempts,
        "discarded": found.discarded,
        "origin": {
            "import": found.import_id,
            "kind": found.import_kind,
            "name": found.import_name,
            "number": found.number,
        },
    }
