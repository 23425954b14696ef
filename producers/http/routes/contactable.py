"""POST /v1/contactable: which of up to 1,000 people may be contacted, by every opt-out that the ledger knows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from consent.errors import ConfigurationError, LedgerError
from consent.identifiers.phones import read_region
from consent.identifiers.suppression import NAME_KINDS, SuppressionCheck, Unknown
from producers.audience import (
    IDENTIFIER,
    NAME_COLUMNS,
    AudienceCheck,
    AudienceQuestion,
    MissingNames,
    Stopped,
    column_of,
    names_of,
    with_check,
)
from producers.http import responses
from producers.http.admission import AppState, Scope, admit_body
from producers.http.openapi import KEYED, operation_id, problem_responses
from producers.http.problems import Problem, ledger_away
from producers.parsing.strict_json import NamedTwice, parse

MOST_PEOPLE = 1_000
_LONGEST_BODY = 1_000_000
_TEXT = {"type": "string", "maxLength": 255}
_NAME = {"anyOf": [_TEXT, {"type": "integer"}]}
_FIELDS = {
    "channel": _TEXT | {"description": "such as EMAIL or SMS"},
    "priority": _TEXT | {"description": "BULK or TRANS; any if it is left out"},
    "connections": {"type": "array", "items": _TEXT, "description": "whose opt-outs count; all if it is left out"},
    "unknown": {
        "type": "string",
        "enum": [*Unknown],
        "description": "what becomes of people who lack a kind of name by which others have opted out",
    },
    "region": _TEXT | {"description": "the country of numbers without a country code, as GB; else the connection's"},
    "people": {
        "type": "array",
        "minItems": 1,
        "maxItems": MOST_PEOPLE,
        "items": {"type": "object", "additionalProperties": False, "properties": dict.fromkeys(NAME_COLUMNS, _NAME)},
    },
}
_BODY = {"type": "object", "required": ["channel", "people"], "additionalProperties": False, "properties": _FIELDS}
router = APIRouter(generate_unique_id_function=operation_id)


@router.post(
    "/v1/contactable",
    summary="Who may be contacted",
    response_model=responses.Contactable,
    response_description="Of each person whether they may be contacted, in the order in which they were sent",
    responses=problem_responses(400, 401, 403, 408, 409, 413, 415, 429, 500, 503),
    openapi_extra=KEYED | {"requestBody": {"required": True, "content": {"application/json": {"schema": _BODY}}}},
)
async def post_contactable(request: Request) -> Response:
    """Any opt-out that stands stops, also one that is pending, held or dead. The key needs the scope contactable.

    What cannot be understood is not allowed. If others have opted out by a kind of name that someone lacks, the answer
    is 409 unless `unknown` says what that means.
    """
    state, sender, body = await admit_body(request, Scope.CONTACTABLE, limit=_LONGEST_BODY)
    fields = _read(body)
    try:
        asked = _question(state, fields)
        people = [_names(one) for one in fields["people"]]
        answer = await run_in_threadpool(_answer, state, asked, people, f"key {sender.name}", body)
    except MissingNames as error:
        raise Problem(HTTPStatus.CONFLICT, "names_missing", str(error)) from None
    except ConfigurationError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, "bad_question", str(error)) from None
    except LedgerError:
        raise ledger_away() from None
    return JSONResponse(answer)


def _read(body: bytes) -> Mapping[str, Any]:
    try:
        fields = parse(body)
    except ValueError:
        raise _bad("send a JSON object with channel and people") from None
    if not isinstance(fields, dict) or isinstance(fields, NamedTwice) or fields.keys() - _FIELDS.keys():
        raise _bad(f"send a JSON object with {', '.join(_FIELDS)}, each once")
    people = fields.get("people")
    if not isinstance(people, list) or not 1 <= len(people) <= MOST_PEOPLE:
        raise _bad(f"people is a list of 1 to {MOST_PEOPLE} objects")
    return fields


def _question(state: AppState, fields: Mapping[str, Any]) -> AudienceQuestion:
    channel, priority, unknown = fields.get("channel"), fields.get("priority", ""), fields.get("unknown")
    connections = fields.get("connections", [])
    if not isinstance(channel, str) or not isinstance(priority, str) or not isinstance(unknown, str | None):
        raise _bad("channel, priority and unknown are texts")
    if not isinstance(connections, list) or not all(isinstance(one, str) for one in connections):
        raise _bad("connections is a list of names")
    asked = AudienceQuestion.read(state.context.rows, channel, priority, connections, unknown)
    return asked.in_region(_region(fields.get("region", "")))


def _region(text: object) -> str:
    if not isinstance(text, str):
        raise _bad("region is a text")
    try:
        return str(read_region(text))
    except ValueError as error:
        raise _bad(f"region: {error}") from None


def _names(person: object) -> Mapping[str, str] | Stopped:
    """Return a person's names; what is not understood is a reason to stop, and never left out."""
    if not isinstance(person, dict) or isinstance(person, NamedTwice):
        return Stopped("bad_person", "write each person as an object that has each name once")
    cells: dict[str, str] = {}
    for name, value in person.items():
        column = column_of(name)
        if column is None or column in cells:
            return Stopped("unknown_field", f"write {', '.join((*NAME_KINDS, 'destination', *IDENTIFIER))}, each once")
        if isinstance(value, bool) or not isinstance(value, str | int):
            return Stopped("unusable_value", f"{column}: write a text")
        cells[column] = str(value)
    return names_of(cells)


def _answer(
    state: AppState, asked: AudienceQuestion, people: Sequence[Mapping[str, str] | Stopped], who: str, body: bytes
) -> responses.Contactable:
    """Check, and record the check before anything of it is told."""
    found: list[Stopped | None] = []

    def work(check: AudienceCheck) -> None:
        found.extend(check.check(people))

    with_check(state.ledger, asked, work)
    stopped = sum(one is not None for one in found)
    facts = (who, "http", hashlib.sha256(body).hexdigest(), asked.question, asked.connections, asked.unknown)
    number = state.ledger.suppression.record(SuppressionCheck(*facts, len(found) - stopped, stopped))
    return {
        "check": number,
        "allowed": len(found) - stopped,
        "stopped": stopped,
        "results": [_as_json(one) for one in found],
    }


def _as_json(stopped: Stopped | None) -> responses.Contact:
    if stopped is None:
        return {"allowed": True, "code": None, "reason": None, "since": None, "connection": None, "state": None}
    facts = {name: value or None for name, value in stopped._asdict().items()}
    return {
        "allowed": False,
        "code": facts["code"],
        "reason": facts["reason"],
        "since": facts["since"],
        "connection": facts["connection"],
        "state": facts["state"],
    }


def _bad(detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "bad_question", detail)
