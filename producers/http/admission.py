"""Which requests a server admits: API keys, what each may do and how often, and how long a body may be and take.

A key has the scopes that stand in brackets behind its name; one without any may post and read, and nothing else.
Several keys are valid at a time, so that one can be replaced while the other still works.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import Request
from starlette.requests import ClientDisconnect

from consent.connection import Rate
from consent.errors import ConfigurationError
from consent.ledger.ledger import Ledger
from consent.public_page import PublicPage
from producers.events.event import CLOUDEVENT, CLOUDEVENT_BATCH, NDJSON
from producers.http.batch_writer import BatchWriter
from producers.http.problems import Problem
from producers.http.tokens import Tokens
from producers.http.unsubscribe.page import PublicPages
from producers.parsing.row_parser import ParseContext

NAMELESS = "default"
"""The name of a key that was given without one."""

KEY_NAME = "optrelay.key_name"
"""Where a request's scope keeps the name of the key that it showed."""

REQUEST_ID = "optrelay.request_id"
"""Where a request's scope keeps its id."""

BODY_SECONDS = 20.0
"""How long a client may take to send its body."""

MEDIA_TYPES = ("application/json", *NDJSON, CLOUDEVENT, CLOUDEVENT_BATCH)
_SHORTEST = 16
_BURST_SECONDS = 1.0


class Scope(StrEnum):
    """What a key may do."""

    OPTOUT = "optout"
    WRITE = "write"
    READ = "read"
    CONTACTABLE = "contactable"
    APPROVE = "approve"
    UNDO = "undo"
    METRICS = "metrics"
    PAUSE = "pause"


UNDECLARED = frozenset({Scope.WRITE, Scope.READ})
"""The scopes of a key for which none were declared."""


class Sender(NamedTuple):
    """Who sends: the name of the key, which may be logged, and the scope in which ids are unique: a digest of the key.

    Two keys are two senders, also if they have one name or none. `may` holds what the key may do.
    """

    name: str
    scope: str
    may: frozenset[Scope] = UNDECLARED


class _Key(NamedTuple):
    name: str
    digest: bytes
    may: frozenset[Scope]


class ApiKeys:
    """The keys that are valid now. Nothing of a key is kept but its hash; its name may be logged."""

    def __init__(self, setting: str) -> None:
        """Read `name=key,name[read+approve]=key` or plain keys; raise ConfigurationError if one can be guessed."""
        self._keys = [_key(part.strip()) for part in setting.split(",") if part.strip()]

    def __bool__(self) -> bool:
        """Whether there is any key."""
        return bool(self._keys)

    def sender(self, headers: Mapping[str, str]) -> Sender | None:
        """Return whose key a request shows, or None if it shows no valid one.

        Every key is compared in full, so that the time taken tells nothing about any of them.
        """
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        key = credentials if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        shown = sha256(key.strip().encode()).digest()
        found = None
        for one in self._keys:
            if hmac.compare_digest(shown, one.digest):
                found = Sender(one.name, sha256(b"in the name of " + one.digest).hexdigest(), one.may)
        return found


class KeyRateLimit:
    """How often each key may ask, with a second's worth (at least one request) at once; kept by this process alone.

    The keys are those of the settings, so they are few. Several server processes each keep their own.
    """

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = rate.interval
        self._tolerance = max(0.0, _BURST_SECONDS - rate.interval)
        self._clock = clock
        self._next: dict[str, float] = {}

    def acquire(self, scope: str) -> float:
        """Take the turn of one request and return 0.0, or take none and return how many seconds to wait for one."""
        now = self._clock()
        due = max(self._next.get(scope, now), now)
        if due - now > self._tolerance:
            return due - now - self._tolerance
        self._next[scope] = due + self._interval
        return 0.0


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


def admit(request: Request, *scopes: Scope) -> tuple[AppState, Sender]:
    """Return the state of the server, and whose key the request shows.

    Raises Problem without a valid key for one of the scopes, or if it comes too often.
    """
    state = app_state(request)
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
    return state, sender


async def admit_body(request: Request, *scopes: Scope, limit: int | None = None) -> tuple[AppState, Sender, bytes]:
    """Admit a request like `admit`, then return its body too, of at most `limit` bytes (None: the server's limit).

    Raises Problem as well for a body that is no JSON in UTF-8 or a form of it, and as `read_form` does.
    """
    state, sender = admit(request, *scopes)
    _check_media_type(request)
    return state, sender, await read_form(request, state.body_limit if limit is None else limit)


async def read_form(request: Request, limit: int) -> bytes:
    """Return a body of at most `limit` bytes, whatever it is; raise Problem for a longer, a slower or a broken one."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    detail = f"a body may have {limit} bytes: send the changes in several requests"
                    raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", detail)
                parts.append(part)
    except TimeoutError:
        detail = f"the body did not come within {BODY_SECONDS:g} seconds"
        raise Problem(HTTPStatus.REQUEST_TIMEOUT, "body_too_slow", detail) from None
    except ClientDisconnect:
        raise Problem(HTTPStatus.BAD_REQUEST, "body_broken_off", "the body broke off") from None
    return b"".join(parts)


def _check_media_type(request: Request) -> None:
    """Raise Problem unless a body is in a form that is read here: JSON in UTF-8, not compressed."""
    kind, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    if (kind.strip() or "application/json") not in MEDIA_TYPES:
        raise _unsupported(f"send one of {', '.join(MEDIA_TYPES)}")
    if "charset=" in parameters and "utf-8" not in parameters and "utf8" not in parameters:
        raise _unsupported("send UTF-8")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise _unsupported("send the body as it is, not compressed")


def _unsupported(detail: str) -> Problem:
    return Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)


def _key(setting: str) -> _Key:
    name, equals, key = setting.partition("=")
    if not equals or not name.strip() or not key.strip("= "):
        name, key = NAMELESS, setting  # a plain key, which may end in the = of base64
        _refuse_half_scopes(key)
    key = key.strip()
    if len(key) < _SHORTEST:
        message = f"OPTRELAY_API_KEYS: a key needs {_SHORTEST} characters at least: `openssl rand -hex 24` makes one"
        raise ConfigurationError(message)
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError(
            "OPTRELAY_API_KEYS: a key is sent in a header, so it has ASCII letters, digits and signs: "
            "`openssl rand -hex 24` makes one"
        )
    name, may = _scopes(name.strip())
    return _Key(name, sha256(key.encode()).digest(), may)


def _scopes(name: str) -> tuple[str, frozenset[Scope]]:
    """Return a key's name, and the scopes that stand in brackets behind it."""
    bare, bracket, scopes = name.removesuffix("]").rpartition("[")
    if not bracket or not name.endswith("]"):
        _refuse_half_scopes(name)
        return name, UNDECLARED
    try:
        return bare.strip() or NAMELESS, frozenset(Scope(one.strip()) for one in scopes.split("+"))
    except ValueError:
        raise ConfigurationError(_HOW_SCOPES_ARE_WRITTEN) from None


def _refuse_half_scopes(text: str) -> None:
    """Raise ConfigurationError for brackets that are not a pair at the end: fewer rights were meant.

    A comma between scopes would make a key of the name before it, which can be guessed.
    """
    if "[" in text or "]" in text:
        raise ConfigurationError(_HOW_SCOPES_ARE_WRITTEN)


_HOW_SCOPES_ARE_WRITTEN = (
    f"OPTRELAY_API_KEYS: the scopes of a key are {', '.join(Scope)}, with + between several, in brackets behind its "
    "name: crm[optout+read]=KEY"
)
