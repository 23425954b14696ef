"""Infobip's error table, its two error envelopes, and how a reply is classified.

Sources: infobip.com/docs/api/platform/subscriptions-api, Infobip's OpenAPI description of /platform/1/blocklists, and
the pages below infobip.com/docs/developer-resources/errors-and-responses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from consent.outcome import PermanentFailure
from worker.providers.classify import (
    Classification,
    ReplyKind,
    answer_for,
    denies,
    foreign,
    in_its_place,
    json_object,
    statuses,
    undocumented,
)
from worker.providers.contract import Answer, Reply, Request

_NAME = "Infobip"
_SCOPE = "Infobip refused access: the API key needs the scope subscriptions:manage, or blocklist:manage for people"

STATUSES = statuses(
    _NAME,
    {
        400: (ReplyKind.INVALID, "Infobip finds the request malformed"),
        401: (ReplyKind.UNAUTHORIZED, "Infobip refused the API key: see the connection's API_KEY"),
        403: (ReplyKind.UNAUTHORIZED, _SCOPE),
        404: (ReplyKind.NOT_FOUND, "Infobip does not know what the call was for"),
        413: (ReplyKind.INVALID, "Infobip finds the request too large"),
        422: (ReplyKind.INVALID, "Infobip finds the request malformed"),
        500: (ReplyKind.RETRY, "Infobip failed on this request"),
    },
)
"""What a status means, whether it is the reply's own or the one that an error in the body stands for."""

_STATUS_DECIDES = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)
_LONGEST_PAUSE = 60.0  # seconds
_ELSEWHERE = "Infobip does not know the resource: see the connection's BASE_URL"

_VIOLATIONS = (
    (re.compile(r"size must be between (\d{1,6}) and (\d{1,6})"), "its length must be between {} and {}"),
    (re.compile(r"unsupported"), "it is not supported"),
    (re.compile(r"must not be (?:empty|blank|null)"), "it must not be empty"),
    (re.compile(r"invalid|not valid|must be a valid|malformed"), "it is not valid"),
)
"""Words of violations that are known, and ours for them: what Infobip writes may repeat a person's data."""


def classify(status: int, body: Body) -> Classification:
    """Classify a reply: an error in the body decides before the status, since a success may be none."""
    if status not in _STATUS_DECIDES and body.status is not None:
        return _lookup(body.status)
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return _success(status, body)
    if status == HTTPStatus.NOT_FOUND and not body.is_error:
        return Classification(ReplyKind.UNAUTHORIZED, str(status), _ELSEWHERE)
    return foreign(_NAME, status, is_own=body.is_error, is_json=body.json is not None) or _lookup(status)


def answer(found: Classification, request: Request, reply: Reply) -> Answer:
    """Return the answer in which all changes of the request share one outcome.

    A request that is not accepted and cannot be made smaller is a dead letter. But what finds even the smallest request
    too large may say so to every customer: whether it does, a call about another customer shows.
    """
    if found.code == str(HTTPStatus.REQUEST_ENTITY_TOO_LARGE.value):
        message = "something before Infobip finds even the smallest request too large"
        found = replace(found, kind=ReplyKind.UNAUTHORIZED, reason=message)
    return answer_for(found, request, reply, _usual_pause(request))


def violation_of(path: str, message: str) -> PermanentFailure:
    """Return the dead letter for what stands at a path of ours in the body; `words` are Infobip's about it."""
    reason, ours = f"Infobip does not accept the {path}", path in _SAME_FOR_ALL
    for pattern, sentence in _VIOLATIONS:
        if found := pattern.search(message.lower()):
            return PermanentFailure("invalid_" + path, f"{reason}: {sentence.format(*found.groups())}", ours)
    return PermanentFailure("invalid_" + path, reason, ours)


_SAME_FOR_ALL = {"sender", "channel"}
"""Parts of a body that are mostly alike for all customers of a file."""


def _usual_pause(request: Request) -> float:
    """Return exponentially more seconds, up to a minute.

    Infobip asks for it: infobip.com/docs/developer-resources/errors-and-responses/rate-limits-and-throttling.
    """
    tries = min((task.tries for task in request.tasks), default=0)
    return min(_LONGEST_PAUSE, 2.0 ** min(tries + 1, 10))


def _lookup(status: int) -> Classification:
    return STATUSES.get(status) or undocumented(_NAME, status)


def _success(status: int, body: Body) -> Classification:
    if body.is_error or (body.json is not None and denies(body.json)):
        reason = "Infobip answered with an error that it does not document"
        return Classification(ReplyKind.RETRY, "unknown", reason)
    if body.json is None and not body.blank:
        return in_its_place(_NAME, status)
    return Classification(ReplyKind.INSPECT, str(status), "Infobip's answer does not show what it should")


_MESSAGE_IDS = {
    "BAD_REQUEST": HTTPStatus.BAD_REQUEST,
    "UNAUTHORIZED": HTTPStatus.UNAUTHORIZED,
    "FORBIDDEN": HTTPStatus.FORBIDDEN,
    "NOT_FOUND": HTTPStatus.NOT_FOUND,
    "TOO_MANY_REQUESTS": HTTPStatus.TOO_MANY_REQUESTS,
    "GENERAL_ERROR": HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The older names of errors, as github.com/infobip/infobip-api-java-client maps them (ApiExceptionDetailsResolver)."""

_ERROR_CODES = {str(int(status)): int(status) for status in _MESSAGE_IDS.values()}


@dataclass(frozen=True, slots=True)
class Violation:
    """What Infobip does not accept: the path of a part of our body, and its words about it."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Body:
    """What a body says: its object if it is one, the status that its error stands for, and what it does not accept.

    `blank` tells an empty body; `is_error` tells a body that has one of the envelopes, with a known code or not.
    """

    blank: bool
    json: dict[str, Any] | None = None
    is_error: bool = False
    status: int | None = None
    violations: tuple[Violation, ...] = ()


def parse_body(text: str) -> Body:
    """Read a body, which may be anything.

    The older envelope (all operations on subscriptions and blocklists), and the newer one:

        {"requestError": {"serviceException": {"messageId": "BAD_REQUEST", "text": "Bad request",
         "validationErrors": {"events[0]": ["must not be null"]}}}}
        {"errorCode": "E400", "description": "…", "action": "…",
         "violations": [{"property": "events[0]", "violation": "must not be null"}], "resources": []}
    """
    body = json_object(text)
    if body is None:
        return Body(blank=not text.strip())
    match body:
        case {"requestError": {"serviceException": {**fault}}}:
            status = _MESSAGE_IDS.get(str(fault.get("messageId")))
            return Body(False, body, True, status, tuple(_older(fault.get("validationErrors"))))  # noqa: FBT003
        case {"errorCode": code}:
            found = _ERROR_CODES.get(str(code).removeprefix("E"))
            return Body(False, body, True, found, tuple(_newer(body.get("violations"))))  # noqa: FBT003
        case _:
            return Body(blank=False, json=body, is_error="requestError" in body)


def _older(errors: Any) -> Iterator[Violation]:
    for path, listed in errors.items() if isinstance(errors, dict) else ():
        for message in listed if isinstance(listed, list) else [listed]:
            yield Violation(str(path), str(message))


def _newer(errors: Any) -> Iterator[Violation]:
    for error in errors if isinstance(errors, list) else ():
        if isinstance(error, dict) and "property" in error:
            yield Violation(str(error["property"]), str(error.get("violation")))
