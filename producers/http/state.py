"""What the endpoints of one server work with (AppState), and which requests it admits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import Request

from consent.ledger.ledger import Ledger
from consent.public_page import PublicPage
from producers.http.api_keys import ApiKeys, KeyRateLimit, Scope, Sender
from producers.http.batch_writer import BatchWriter
from producers.http.problems import Problem
from producers.http.tokens import Tokens
from producers.http.unsubscribe.page import PublicPages
from producers.parsing.row_parser import ParseContext

KEY_NAME = "optrelay.key_name"
"""Where a request's scope keeps the name of the key that it showed."""

REQUEST_ID = "optrelay.request_id"
"""Where a request's scope keeps its id."""


@dataclass(frozen=True, slots=True)
class AppState:
    """The parts of one server process, made once.

    `schema` is the JSON Schema of what may be posted, `public_schema` the same without the names of our connections;
    `body_limit` is in bytes. `import_report` raises LedgerUnavailable; `broker_state` says how the broker is.
    With `four_eyes` only a key with a name approves. `metrics` returns what Prometheus reads,
    `public_pages` makes what people see behind a link.
    """

    ledger: Ledger
    batch_writer: BatchWriter
    context: ParseContext
    keys: ApiKeys
    rate_limit: KeyRateLimit
    tokens: Tokens
    schema: dict[str, Any]
    public_schema: dict[str, Any]
    body_limit: int
    import_report: Callable[[str], dict[str, Any] | None]
    broker_state: Callable[[], str]
    four_eyes: bool = False
    metrics: Callable[[], bytes] = bytes
    public_pages: PublicPages = field(default_factory=lambda: PublicPages(PublicPage()))


def app_state(request: Request) -> AppState:
    """Return the state of the server that a request came to."""
    state: AppState = request.app.state.app_state
    return state


def admit(request: Request, state: AppState, *scopes: Scope) -> Sender:
    """Return whose key the request shows; raise Problem without a valid one for one of the scopes, or too often."""
    sender = state.keys.sender(request.headers)
    if sender is None:
        detail = "send a valid key as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
        raise Problem(HTTPStatus.UNAUTHORIZED, "unauthorized", detail)
    request.scope[KEY_NAME] = sender.name
    if wait := state.rate_limit.acquire(sender.scope):
        detail = "too many requests with this key: wait, or put more changes into one request"
        raise Problem(HTTPStatus.TOO_MANY_REQUESTS, "too_many_requests", detail, wait)
    if sender.may.isdisjoint(scopes):
        detail = f"this key has not the scope {' or '.join(scopes)}: use one that has, or add it in OPTRELAY_API_KEYS"
        raise Problem(HTTPStatus.FORBIDDEN, "missing_scope", detail)
    return sender
