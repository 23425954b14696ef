"""What people decide: GET /v1/held, POST /v1/imports/{id}/approve, /withdraw and /undo, and POST /v1/fuses/reset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from consent.change import Action
from consent.errors import LedgerError, LedgerRefused
from consent.guards.fuse import FuseWay
from consent.ledger.review.holds import Decided, Decision, NotAsExpected, NothingHeld, SamePerson
from consent.ledger.review.undo import NotUndone, Undone
from producers.http import responses
from producers.http.admission import NAMELESS, AppState, Scope, Sender, admit, admit_body
from producers.http.openapi import KEYED, operation_id, problem_responses
from producers.http.problems import Problem, ledger_away

T = TypeVar("T")
_Result = Decided | NotAsExpected | NothingHeld | SamePerson | None
_ONLY = {"optouts": Action.OPTOUT, "optins": Action.OPTIN, None: None}
_LONGEST_BODY = 10_000
_LONGEST_WHY = 1_000
_PROBLEMS = problem_responses(400, 401, 403, 404, 408, 409, 413, 415, 429, 500, 503)
_FIELDS = {
    "why": {"type": "string", "minLength": 1, "maxLength": _LONGEST_WHY},
    "expect": {"type": "integer", "minimum": 0, "description": "how many slots would change, as GET /v1/held tells"},
}
_ONLY_FIELD = {"type": "string", "enum": ["optouts", "optins"], "description": "the others stay held"}
_AGAIN_FIELD = {"type": "boolean", "description": "also opt in again those that it opted out, if they were in before"}
_DRY_RUN_FIELD = {"type": "boolean", "description": "only say what would happen"}


def _body(*, required: Sequence[str] = ("why",), **more: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": {**_FIELDS, **more}}
    if required:
        schema["required"] = list(required)
    return KEYED | {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


router = APIRouter(generate_unique_id_function=operation_id)


@router.get(
    "/v1/held",
    summary="The imports that a guard holds",
    response_model=responses.Held,
    response_description="Why each is held, and how many slots it would change",
    responses=problem_responses(401, 403, 429, 500, 503),
    openapi_extra=KEYED,
)
async def get_held(request: Request) -> Response:
    """Tell what `optrelay held --json` prints: what guards and fuses hold. The key needs the scope approve."""
    state, _ = admit(request, Scope.APPROVE)
    found = await _on_ledger(state.ledger.review.held_imports)
    fuses = await _on_ledger(state.ledger.fuses.tripped)
    return JSONResponse({"held": [one.as_json() for one in found], "fuses": [one.as_json() for one in fuses]})


_RESET = {
    "type": "object",
    "required": ["what", "why"],
    "additionalProperties": False,
    "properties": {
        "what": {
            "type": "string",
            "minLength": 1,
            "maxLength": _LONGEST_WHY,
            "description": "an import's id, an origin as GET /v1/held shows it, or a connection: all that it has held",
        },
        "why": _FIELDS["why"],
        "way": {
            "type": "string",
            "enum": [way.value for way in FuseWay],
            "description": "send it, or its opt-outs alone, let it die without a call, or send it whatever is answered",
        },
    },
}


@router.post(
    "/v1/fuses/reset",
    summary="Go on with what a fuse holds",
    response_model=responses.FusesReset,
    response_description="Which fuses were reset; none if none holds it in another way",
    responses=problem_responses(400, 401, 403, 408, 413, 415, 429, 500, 503),
    openapi_extra=KEYED | {"requestBody": {"required": True, "content": {"application/json": {"schema": _RESET}}}},
)
async def post_reset_fuse(request: Request) -> Response:
    """Send what is held, or a part of it, or let it die; saying it twice changes nothing.

    It is carried out before the answer as far as that goes within two seconds; the next sweep goes on with the rest.
    The key needs the scope approve. Its name is kept in the audit log, with `why`.
    """
    state, sender, body = await admit_body(request, Scope.APPROVE, limit=_LONGEST_BODY)
    fields = _fields(body, {"what", "why", "way"})
    what, way = fields.get("what"), fields.get("way", FuseWay.RESUME.value)
    if not isinstance(what, str) or not what or len(what) > _LONGEST_WHY or "\0" in what:
        raise _bad("what says which: an import's id, an origin or a connection")
    if way not in [one.value for one in FuseWay]:
        raise _bad(f"way is one of {', '.join(FuseWay)}")
    decision = _decided_by(state, sender, fields)
    fuses = state.ledger.fuses
    done = await _on_ledger(lambda: fuses.reset(what, FuseWay(way), decision))
    if done:
        await run_in_threadpool(fuses.work_off_soon)
    return JSONResponse({"done": way if done else None, "fuses": [one.as_json() for one in done]})


@router.post(
    "/v1/imports/{id}/approve",
    summary="Let a held import be delivered",
    response_model=responses.Decided,
    response_description="What was approved; nothing if nothing is held any more",
    responses=_PROBLEMS,
    openapi_extra=_body(only=_ONLY_FIELD),
)
async def post_approve(request: Request, id: str) -> Response:  # noqa: A002 - the name of the parameter is public
    """Let all of it be delivered, or only its opt-outs or opt-ins; saying it twice changes nothing.

    The key needs the scope approve. Its name is kept in the audit log, with `why`.
    """
    state, decision = await _decision(request, {"why", "expect", "only"})
    return await _decided(state, id, "approved", lambda: state.ledger.review.approve(id, decision))


@router.post(
    "/v1/imports/{id}/withdraw",
    summary="Give up what is held of an import",
    response_model=responses.Decided,
    response_description="What was withdrawn; nothing if nothing is held any more",
    responses=_PROBLEMS,
    openapi_extra=_body(),
)
async def post_withdraw(request: Request, id: str) -> Response:  # noqa: A002 - the same
    """Give it up for good: none of it is ever delivered. The key needs the scope approve."""
    state, decision = await _decision(request, {"why", "expect"})
    return await _decided(state, id, "withdrawn", lambda: state.ledger.review.withdraw(id, decision))


@router.post(
    "/v1/imports/{id}/undo",
    summary="Bring back what each slot held before an import",
    response_model=responses.Undone,
    response_description="What was undone, or would be, and what was not",
    responses=_PROBLEMS,
    openapi_extra=_body(opt_in_again=_AGAIN_FIELD, dry_run=_DRY_RUN_FIELD, required=()),
)
async def post_undo(request: Request, id: str) -> Response:  # noqa: A002 - the same
    """Undo an import, unless something was said later; saying it twice changes nothing. `dry_run` only says it.

    The key needs the scope undo. Its name is kept in the audit log, with `why`, which only a dry run can do without.
    """
    state, sender, body = await admit_body(request, Scope.UNDO, limit=_LONGEST_BODY)
    fields = _fields(body, {"why", "expect", "opt_in_again", "dry_run"})
    again, only_say = (_flag(fields, name) for name in ("opt_in_again", "dry_run"))
    review = state.ledger.review
    if only_say:
        plan = await _on_ledger(lambda: _planned(state, id, opt_in_again=again))
        return _undone_response(id, plan, dry_run=True)
    if again:
        _prove_name(state, sender, Scope.UNDO)
    decision = _decided_by(state, sender, fields)
    return _undone_response(id, await _on_ledger(lambda: review.undo(id, decision, opt_in_again=again)))


def _planned(state: AppState, import_id: str, *, opt_in_again: bool) -> Undone | NotUndone | None:
    if state.ledger.queries.report(import_id) is None:
        return None
    review = state.ledger.review
    return review.refuses_undo(import_id) or Undone(None, review.plan_undo(import_id, opt_in_again=opt_in_again))


def _undone_response(import_id: str, found: Undone | NotUndone | None, *, dry_run: bool = False) -> Response:
    match found:
        case None:
            raise _unknown_import()
        case NotUndone(reason, None):
            raise Problem(HTTPStatus.CONFLICT, "cannot_undo", reason)
        case NotUndone(_, slots):
            detail = f"it would undo {slots:,} slots now: ask again with dry_run"
            raise Problem(HTTPStatus.CONFLICT, "not_as_expected", detail)
        case Undone(undo_id, plan):
            return JSONResponse({"import": import_id, "dry_run": dry_run, "undone_by": undo_id} | plan.as_json())


def _flag(fields: dict[str, Any], name: str) -> bool:
    if not isinstance(found := fields.get(name, False), bool):
        raise _bad(f"{name} is true or false")
    return found


async def _decision(request: Request, fields: set[str]) -> tuple[AppState, Decision]:
    state, sender, body = await admit_body(request, Scope.APPROVE, limit=_LONGEST_BODY)
    _prove_name(state, sender, Scope.APPROVE)
    return state, _decided_by(state, sender, _fields(body, fields))


def _prove_name(state: AppState, sender: Sender, scope: Scope) -> None:
    """Raise Problem if two people have to agree and a key has no name."""
    if state.four_eyes and sender.name == NAMELESS:
        detail = f"OPTRELAY_FOUR_EYES wants a key with a name: write it as name[{scope}]=key"
        raise Problem(HTTPStatus.FORBIDDEN, "nameless_key", detail)


def _fields(body: bytes, known: set[str]) -> dict[str, Any]:
    """Return the fields that a body has; raise Problem for others."""
    try:
        fields = orjson.loads(body)
    except ValueError:
        raise _bad("send a JSON object with why") from None
    if not isinstance(fields, dict) or fields.keys() - known:
        raise _bad(f"send a JSON object with {', '.join(sorted(known))}")
    return fields


def _decided_by(state: AppState, sender: Sender, fields: dict[str, Any]) -> Decision:
    why, expect, only = fields.get("why"), fields.get("expect"), fields.get("only")
    if not isinstance(why, str) or not why.strip() or len(why) > _LONGEST_WHY or "\0" in why:
        raise _bad(f"why says why, in 1 to {_LONGEST_WHY} characters")
    if expect is not None and (not isinstance(expect, int) or isinstance(expect, bool) or not 0 <= expect < 2**63):
        raise _bad("expect is a number of slots")
    if not isinstance(only, str | None) or only not in _ONLY:
        raise _bad("only is optouts or optins")
    return Decision(f"key {sender.name}", why, _ONLY[only], expect, sender.name if state.four_eyes else None)


async def _decided(state: AppState, import_id: str, what: str, decide: Callable[[], _Result]) -> Response:
    """Decide and let what was approved be due; the sweep wakes the workers."""

    def work() -> _Result:
        result = decide()
        if isinstance(result, Decided | NothingHeld):
            state.ledger.intake.publish(import_id)
        return result

    match await _on_ledger(work):
        case None:
            raise _unknown_import()
        case SamePerson(name):
            detail = f"OPTRELAY_FOUR_EYES is set, and {name} has imported it: another person has to approve it"
            raise Problem(HTTPStatus.FORBIDDEN, "same_person", detail)
        case NotAsExpected(slots):
            detail = f"it would change {slots:,} slots now: look at GET /v1/held again"
            raise Problem(HTTPStatus.CONFLICT, "not_as_expected", detail)
        case Decided(changes, slots):
            answer = {"import": import_id, "done": what, "changes": changes, "slots": slots}
        case NothingHeld():
            answer = {"import": import_id, "done": None, "changes": 0, "slots": 0}
    return JSONResponse(answer)


async def _on_ledger(work: Callable[[], T]) -> T:
    try:
        return await run_in_threadpool(work)
    except LedgerRefused:  # PostgreSQL takes no id with a NUL
        raise _unknown_import() from None
    except LedgerError:
        raise ledger_away() from None


def _unknown_import() -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, "unknown_import", "there is no import with this id")


def _bad(detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "bad_decision", detail)
