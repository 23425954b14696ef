"""/v1/unsubscribe/{token}: RFC 8058 one-click, and a page for those who follow the link themselves.

https://www.rfc-editor.org/rfc/rfc8058
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes
from email.message import Message
from http import HTTPStatus
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from consent.change import from_micros
from consent.errors import LedgerError
from consent.ledger.ledger import Ledger
from consent.ledger.queries.changes import find_change, public_ids, standing_opt_in
from producers.events.event import Event
from producers.http import openapi, pages
from producers.http.body import read_body
from producers.http.parts import parts_of
from producers.http.problem import Problem, ledger_away
from producers.http.tokens import Expired, Forged, Link
from producers.parsing.columns import FALLBACK_TIME
from producers.parsing.error_messages import RowError
from producers.parsing.row_parser import ParseContext, RawRecord, parse_record

REPEAT_SECONDS = 600
"""A link that is used again this soon is the same click: a mail provider that tried again, or an impatient finger."""

FIELD, VALUE = "List-Unsubscribe", "One-Click"
_URL_ENCODED, _MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"
_LONGEST_BODY = 8 * 1024
_FORM = {
    "schema": {
        "type": "object",
        "required": [FIELD],
        "properties": {FIELD: {"const": VALUE}},
    }
}
_log = logging.getLogger("optrelay.http")
router = APIRouter(generate_unique_id_function=openapi.operation_id, default_response_class=HTMLResponse)


@router.get(
    "/v1/unsubscribe/{token}",
    summary="A page that asks, and changes nothing",
    response_description="A page",
    responses=openapi.pages(404, 410, 500),
)
async def confirm(request: Request, token: str) -> Response:
    """Show one button, which opts out; programs that follow every link of a mail change nothing by it."""
    try:
        parts_of(request).tokens.read(token)
    except (Expired, Forged) as error:
        return _useless(error)
    return pages.page(pages.CONFIRM)


@router.post(
    "/v1/unsubscribe/{token}",
    summary="Opt out at this moment (RFC 8058); no key, no cookie",
    response_description="A page",
    responses=openapi.pages(400, 404, 408, 410, 413, 500, 503),
    openapi_extra={"requestBody": {"required": True, "content": {_URL_ENCODED: _FORM, _MULTIPART: _FORM}}},
)
async def unsubscribe(request: Request, token: str) -> Response:
    """Send the form List-Unsubscribe=One-Click; without it nothing is changed."""
    parts = parts_of(request)
    try:
        link = parts.tokens.read(token)
        body = await read_body(request, _LONGEST_BODY)
        kind = request.headers.get("content-type", "")
        if not _is_one_click(kind, body):
            return pages.page(pages.NOT_ASKED, HTTPStatus.BAD_REQUEST)
        said = await run_in_threadpool(_word_of, link, parts.ledger, parts.context, by_person=_is_person(body))
        results = await parts.gatherer.record(Event(said, place=f"unsubscribe {said['change_id']}"), len(body))
    except (Expired, Forged) as error:
        return _useless(error)
    except LedgerError:
        return _try_again(ledger_away())
    except Problem as problem:
        return _try_again(problem)
    if results[0].status == "rejected":
        _log.error("an unsubscribe link was refused (%s): its connection or columns no longer fit", results[0].code)
        return _try_again(ledger_away())
    return pages.page(pages.DONE)


def _word_of(link: Link, ledger: Ledger, context: ParseContext, *, by_person: bool) -> dict[str, str]:
    """Return what a click says now, or what the click before it said if that was a moment ago.

    So a click that is sent twice undoes nothing that was said in between, and one that comes later is a new change. So
    is a person's at any time if an opt-in stands: no one presses our button and means a click of before.
    """
    now = ledger.now()
    turn = now // (REPEAT_SECONDS * 1_000_000)
    said = {**link.fields, "action": "OPTOUT", FALLBACK_TIME: from_micros(now).isoformat()}
    said.pop("effective_at", None)  # the moment is ours: with one of its own, a click that is sent twice would be two
    before = said | {"change_id": f"link:{link.id}:{turn - 1}"}
    recently = replace(context, latest=from_micros(now) + timedelta(seconds=1))
    wishes = parse_record(RawRecord(before), recently)
    if not isinstance(wishes, RowError):
        if by_person and (opt_in := standing_opt_in(ledger.database, wishes)) is not None:
            id_, since = opt_in
            latest = {FALLBACK_TIME: from_micros(max(now, since)).isoformat()}  # it may stand a little in the future
            return said | latest | {"change_id": f"link:{link.id}:{turn}:after:{id_}"}
        earlier = find_change(ledger.database, public_ids(ledger.database, wishes)[0])
        if earlier is not None and now - earlier.recorded_at < REPEAT_SECONDS * 1_000_000:
            return before
    return said | {"change_id": f"link:{link.id}:{turn}"}


def _is_one_click(content_type: str, body: bytes) -> bool:
    """Whether a form says `List-Unsubscribe=One-Click`, in either of the two encodings that RFC 8058 allows.

    What the content type says does not matter, nor white space around the value: an opt-out that is refused is the
    worse mistake, and no scanner that follows links sends this form.
    """
    if _says_it(_fields(body).get(FIELD, ())):
        return True
    if _kind(content_type) != _MULTIPART:
        if not body.startswith(b"--"):
            return False
        boundary = body.partition(b"\n")[0].removeprefix(b"--").strip().decode("latin-1").replace('"', "")
        content_type = f'{_MULTIPART}; boundary="{boundary}"'
    form = message_from_bytes(b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n" + body)
    parts = [part for part in form.walk() if not part.is_multipart()]
    return _says_it([_text(part) for part in parts if part.get_param("name", header="content-disposition") == FIELD])


def _is_person(body: bytes) -> bool:
    """Whether a form comes from the button of our own page."""
    return _fields(body).get(pages.PRESSED) == [pages.BY_PERSON]


def _fields(body: bytes) -> dict[str, list[str]]:
    return parse_qs(body.decode("latin-1").strip())


def _says_it(values: Iterable[str]) -> bool:
    return any(value.strip() == VALUE for value in values)


def _text(part: Message) -> str:
    payload = part.get_payload(decode=True)
    return payload.decode("latin-1") if isinstance(payload, bytes) else ""


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _useless(error: Expired | Forged) -> Response:
    if isinstance(error, Expired):
        return pages.page(pages.EXPIRED, HTTPStatus.GONE)
    return pages.page(pages.UNKNOWN, HTTPStatus.NOT_FOUND)


def _try_again(problem: Problem) -> Response:
    shown: Mapping[HTTPStatus, pages.Words] = {HTTPStatus.SERVICE_UNAVAILABLE: pages.LATER}
    return pages.page(shown.get(problem.status, pages.NOT_ASKED), problem.status, problem.headers)
