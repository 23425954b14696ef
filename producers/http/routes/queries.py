"""What became of a change, of everything that came with it, and of all changes since a cursor."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from consent.errors import LedgerError, UnusableCursor
from consent.ledger.queries.outcomes import MOST_OUTCOMES
from producers.http import responses
from producers.http.admission import Scope, admit
from producers.http.change_json import change_as_json, page_as_json
from producers.http.openapi import KEYED, operation_id, problem_responses
from producers.http.problems import Problem, ledger_away

T = TypeVar("T")
_PROBLEMS = problem_responses(401, 403, 404, 429, 500, 503)
router = APIRouter(generate_unique_id_function=operation_id)


@router.get(
    "/v1/changes",
    summary="What became of changes since a cursor",
    response_model=responses.Outcomes,
    response_description="Some outcomes, and the cursor behind them",
    responses=problem_responses(400, 401, 403, 410, 429, 500, 503),
    openapi_extra=KEYED,
)
async def get_outcomes(request: Request, after: str | None = None, limit: str = "1000") -> Response:
    """Tell outcomes in the order in which they became visible, behind the cursor `after`; without one, the oldest kept.

    Each outcome of each change is told behind every cursor given before it, also what a replay leads to, so none is
    missed. Ask again with the `cursor` of the answer, at once if there is `more`. `limit` is at most 10000.
    """
    state, _ = admit(request, Scope.READ)
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= MOST_OUTCOMES:
        raise Problem(HTTPStatus.BAD_REQUEST, "bad_parameter", f"limit is a number from 1 to {MOST_OUTCOMES}")
    try:
        return JSONResponse(page_as_json(await _read(lambda: state.ledger.queries.outcomes_after(after, int(limit)))))
    except UnusableCursor as error:
        status, code = (410, "cursor_gone") if error.gone else (400, "bad_cursor")
        raise Problem(HTTPStatus(status), code, str(error)) from None


@router.get(
    "/v1/changes/{id}",
    summary="What became of a change",
    response_model=responses.ChangeState,
    response_description="What became of it",
    responses=_PROBLEMS,
    openapi_extra=KEYED,
)
async def get_change(request: Request, id: str) -> Response:  # noqa: A002 - the name of the parameter is public
    """Tell its state, where it came from and why it failed, if it did; no address is shown."""
    state, _ = admit(request, Scope.READ)
    found = await _find(id, state.ledger.queries.find_change)
    if found is None:
        raise _unknown("change")
    return JSONResponse(change_as_json(found))


@router.get(
    "/v1/imports/{id}",
    summary="The counts of an import",
    response_model=responses.ImportReport,
    response_description="Its counts",
    responses=_PROBLEMS,
    openapi_extra=KEYED,
)
async def get_import(request: Request, id: str) -> Response:  # noqa: A002 - the name of the parameter is public
    """Tell what `optrelay status IMPORT --json` prints."""
    state, _ = admit(request, Scope.READ)
    found = await _find(id, state.import_report)
    if found is None:
        raise _unknown("import")
    return JSONResponse(found)


async def _find(text: str, find: Callable[[str], T | None]) -> T | None:
    """Find what has an id; no id has a NUL, and PostgreSQL takes none."""
    return None if "\0" in text else await _read(lambda: find(text))


async def _read(query: Callable[[], T]) -> T:
    try:
        return await run_in_threadpool(query)
    except LedgerError:
        raise ledger_away() from None


def _unknown(what: str) -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, f"unknown_{what}", f"there is no {what} with this id")
