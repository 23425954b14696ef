"""What the body of an Infobip reply says, in whichever of its two error envelopes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from worker.providers.json_body import json_object, without_mark

_STATUSES = {
    "BAD_REQUEST": HTTPStatus.BAD_REQUEST,
    "UNAUTHORIZED": HTTPStatus.UNAUTHORIZED,
    "FORBIDDEN": HTTPStatus.FORBIDDEN,
    "NOT_FOUND": HTTPStatus.NOT_FOUND,
    "TOO_MANY_REQUESTS": HTTPStatus.TOO_MANY_REQUESTS,
    "GENERAL_ERROR": HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The older names and what Infobip's own Java client makes of them (ApiExceptionDetailsResolver.java)."""

_KNOWN = {str(int(status)): int(status) for status in _STATUSES.values()}


@dataclass(frozen=True, slots=True)
class Violation:
    """What Infobip does not accept: the path of a part of our body, and its words about it."""

    path: str
    words: str


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
        return Body(blank=not without_mark(text).strip())
    match body:
        case {"requestError": {"serviceException": {**fault}}}:
            status = _STATUSES.get(str(fault.get("messageId")))
            return Body(False, body, True, status, tuple(_older(fault.get("validationErrors"))))  # noqa: FBT003
        case {"errorCode": code}:
            found = _KNOWN.get(str(code).removeprefix("E"))
            return Body(False, body, True, found, tuple(_newer(body.get("violations"))))  # noqa: FBT003
        case _:
            return Body(blank=False, json=body, is_error="requestError" in body)


def _older(errors: Any) -> Iterator[Violation]:
    for path, listed in errors.items() if isinstance(errors, dict) else ():
        for words in listed if isinstance(listed, list) else [listed]:
            yield Violation(str(path), str(words))


def _newer(errors: Any) -> Iterator[Violation]:
    for error in errors if isinstance(errors, list) else ():
        if isinstance(error, dict) and "property" in error:
            yield Violation(str(error["property"]), str(error.get("violation")))
