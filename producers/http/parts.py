"""What the endpoints work with, made once for each server process, and who is let in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.requests import Request

from consent.ledger.ledger import Ledger
from producers.http.allowance import Allowance
from producers.http.gathering import Gatherer
from producers.http.keys import ApiKeys, Sender
from producers.http.problem import Problem
from producers.http.tokens import Tokens
from producers.parsing.row_parser import ParseContext

OWNER = "optrelay.owner"
"""Where a request's scope keeps the name of the key that it showed."""

REQUEST_ID = "optrelay.request_id"
"""Where a request's scope keeps its id."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one server. `import_report` raises LedgerUnavailable; `broker_state` says how the broker is.

    `schema` is the JSON Schema of what may be posted, `public_schema` the same without the names of our connections;
    `body_limit` is in bytes.
    """

    ledger: Ledger
    gatherer: Gatherer
    context: ParseContext
    keys: ApiKeys
    allowance: Allowance
    tokens: Tokens
    schema: dict[str, Any]
    public_schema: dict[str, Any]
    body_limit: int
    import_report: Callable[[str], dict[str, Any] | None]
    broker_state: Callable[[], str]


def parts_of(request: Request) -> Parts:
    """Return the parts of the server that a request came to."""
    parts: Parts = request.app.state.parts
    return parts


def admit(request: Request) -> Sender:
    """Return whose key the request shows; raise Problem for a request without a valid one, or one too many."""
    parts = parts_of(request)
    sender = parts.keys.sender(request.headers)
    if sender is None:
        detail = "send a valid key as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
        raise Problem(HTTPStatus.UNAUTHORIZED, "unauthorized", detail)
    request.scope[OWNER] = sender.name
    if wait := parts.allowance.wait(sender.scope):
        detail = "too many requests with this key: wait, or put more changes into one request"
        raise Problem(HTTPStatus.TOO_MANY_REQUESTS, "too_many_requests", detail, wait)
    return sender
