"""/v1/unsubscribe/{token}: RFC 8058 one-click, and a page for people who follow the link themselves.

https://www.rfc-editor.org/rfc/rfc8058
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from consent.errors import LedgerError
from consent.ledger.ledger import Ledger
from consent.times import from_micros
from producers.events.event import Event
from producers.http.admission import app_state, read_form
from producers.http.openapi import operation_id, page_responses
from producers.http.problems import Problem, ledger_away
from producers.http.tokens import Expired, Forged, Link
from producers.http.unsubscribe import form
from producers.http.unsubscribe.page import What
from producers.parsing.columns import FALLBACK_TIME
from producers.parsing.error_messages import RowError
from producers.parsing.row_parser import ParseContext, RawRecord, parse_record

REPEAT_SECONDS = 600
"""A link that is used again this soon is the same click: a mail provider that tried again, or an impatient finger."""

_LONGEST_BODY = 8 * 1024
_FORM = {"schema": {"type": "object", "required": [form.FIELD], "properties": {form.FIELD: {"const": form.VALUE}}}}
_log = logging.getLogger("optrelay.http")
router = APIRouter(generate_unique_id_function=operation_id, default_response_class=HTMLResponse)


@router.get(
    "/v1/unsubscribe/{token}",
    summary="A page that asks, and changes nothing",
    response_description="A page",
    responses=page_responses(404, 410, 500),
)
async def confirm(request: Request, token: str) -> Response:
    """Show one button, which opts out; programs that follow every link of a mail change nothing by it."""
    try:
        link = app_state(request).tokens.read(token)
    except (Expired, Forged) as error:
        return _unusable(request, error)
    return _page(request, "confirm", link)


@router.post(
    "/v1/unsubscribe/{token}",
    summary="Opt out at this moment (RFC 8058); no key, no cookie",
    response_description="A page",
    responses=page_responses(400, 404, 408, 410, 413, 500, 503),
    openapi_extra={"requestBody": {"required": True, "content": {form.URL_ENCODED: _FORM, form.MULTIPART: _FORM}}},
)
async def unsubscribe(request: Request, token: str) -> Response:
    """Send the form List-Unsubscribe=One-Click; without it nothing is changed."""
    state = app_state(request)
    try:
        link = state.tokens.read(token)
        body = await read_form(request, _LONGEST_BODY)
        if not form.is_one_click(request.headers.get("content-type", ""), body):
            return _page(request, "not_asked", status=HTTPStatus.BAD_REQUEST)
        fields = await run_in_threadpool(
            _fields_of_click, link, state.ledger, state.context, by_person=form.is_from_page(body)
        )
        event = Event(fields, place=f"unsubscribe {fields['change_id']}", sent_by="unsubscribe links")
        results = await state.batch_writer.record(event, len(body))
    except (Expired, Forged) as error:
        return _unusable(request, error)
    except LedgerError:
        return _try_again(request, ledger_away())
    except Problem as problem:
        return _try_again(request, problem)
    if results[0].status == "rejected":
        _log.error("an unsubscribe link was refused (%s): its connection or columns no longer fit", results[0].code)
        return _try_again(request, ledger_away())
    return _page(request, "done", link)


def _fields_of_click(link: Link, ledger: Ledger, context: ParseContext, *, by_person: bool) -> dict[str, str]:
    """Return the change that a click makes now, or the one of the click before it if that was a moment ago.

    So a click that is sent twice undoes nothing that came in between, and one that comes later is a new change. So is
    a person's at any time if an opt-in stands: a person who presses our button means it now.
    """
    now = ledger.now()
    turn = now // (REPEAT_SECONDS * 1_000_000)
    fields = {**link.fields, "action": "OPTOUT", FALLBACK_TIME: from_micros(now).isoformat()}
    fields.pop("effective_at", None)  # the moment is ours: with one of its own, a click that is sent twice would be two
    before = fields | {"change_id": f"link:{link.id}:{turn - 1}"}
    recently = replace(context, latest=now + 1_000_000)
    found = parse_record(RawRecord(before), recently)
    if not isinstance(found, RowError):
        opt_in = ledger.queries.current_opt_in(found)
        if opt_in is not None and opt_in[1] > now:  # its sender's clock is fast: it would overrule this click
            fields[FALLBACK_TIME] = from_micros(opt_in[1]).isoformat()
        if by_person and opt_in is not None:
            return fields | {"change_id": f"link:{link.id}:{turn}:after:{opt_in[0]}"}
        earlier = ledger.queries.find_change(ledger.queries.public_ids(found)[0])
        if earlier is not None and now - earlier.recorded_at < REPEAT_SECONDS * 1_000_000:
            return before
    return fields | {"change_id": f"link:{link.id}:{turn}"}


def _unusable(request: Request, error: Expired | Forged) -> Response:
    if isinstance(error, Expired):
        return _page(request, "expired", status=HTTPStatus.GONE)
    return _page(request, "unknown", status=HTTPStatus.NOT_FOUND)


def _try_again(request: Request, problem: Problem) -> Response:
    what: What = "later" if problem.status is HTTPStatus.SERVICE_UNAVAILABLE else "not_asked"
    return _page(request, what, status=problem.status, headers=problem.headers)


def _page(
    request: Request,
    what: What,
    link: Link | None = None,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a page in the language of the browser, about what a link and its connection's defaults say."""
    state, about = app_state(request), {}
    if link is not None:
        connection = link.fields.get("connection") or (
            next(iter(state.context.rows)) if len(state.context.rows) == 1 else ""
        )
        about = {**state.context.defaults.get(connection, {}), **link.fields, "connection": connection}
    return state.public_pages.page(what, ", ".join(request.headers.getlist("accept-language")), about, status, headers)
