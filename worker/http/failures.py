"""What it means that a call got no reply, and for how long a reply asks us to wait (Retry-After).

A missing reply says nothing about the changes, only about the connection.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

from consent.outcome import Retry, Unavailable
from worker.providers.contract import Answer, Request


class Failure(StrEnum):
    """Why there is no reply."""

    UNREACHABLE = "unreachable"
    TLS = "tls"
    PROXY = "proxy"
    NO_TOKEN = "no_token"  # noqa: S105 - a word, not a secret
    TIMED_OUT = "timed_out"
    CUT = "cut"
    UNREADABLE = "unreadable"


_REASONS = {
    Failure.UNREACHABLE: "the provider could not be reached; nothing was sent",
    Failure.TLS: "there is no safe connection to the provider (TLS); nothing was sent",
    Failure.PROXY: "the proxy wants a user name and a password in its address (407); nothing was sent",
    Failure.NO_TOKEN: "the provider gave no access token; nothing was sent",
    Failure.TIMED_OUT: "the provider did not answer in time",
    Failure.CUT: "the connection broke before the provider had answered",
    Failure.UNREADABLE: "the provider's answer is no HTTP that can be read; what was sent may have been done",
}

NOTHING_SENT = frozenset(kind.value for kind in (Failure.UNREACHABLE, Failure.TLS, Failure.PROXY, Failure.NO_TOKEN))
"""The codes of calls that never reached the provider: they cannot be about any customer."""


@dataclass(frozen=True, slots=True)
class NoReply:
    """A call that got no reply; `sent` says whether the provider may have seen it."""

    kind: Failure
    reason: str
    sent: bool


def no_reply(kind: Failure) -> NoReply:
    """Return the fact with the sentence that goes with it: no address, query or person is in it."""
    return NoReply(kind, _REASONS[kind], sent=kind in (Failure.TIMED_OUT, Failure.CUT, Failure.UNREADABLE))


def why(error: Exception) -> NoReply:
    """Say what an exception of the HTTP client means."""
    import httpx  # noqa: PLC0415 - who raised one has loaded it; `status`, which explains codes, need not

    if isinstance(error, httpx.ConnectError) and any(isinstance(cause, ssl.SSLError) for cause in _causes(error)):
        return no_reply(Failure.TLS)
    if isinstance(error, httpx.ProxyError):
        return no_reply(Failure.PROXY)
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)):
        return no_reply(Failure.UNREACHABLE)
    if isinstance(error, (httpx.TimeoutException, TimeoutError)):
        return no_reply(Failure.TIMED_OUT)
    return no_reply(Failure.UNREADABLE if isinstance(error, httpx.DecodingError) else Failure.CUT)


def unanswered(fact: NoReply, request: Request) -> Answer:
    """Say what becomes of the changes of a call without reply: they wait, and it does not count against them."""
    later = Retry(fact.kind.value, fact.reason, counts=False)
    return Answer(Unavailable(fact.reason), {change.id: later for change in request.changes}, code=fact.kind.value)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


LONGEST = 86_400.0
"""A day: a provider that says more has most likely made a mistake, and asking it once a day harms no one."""

_SECONDS = re.compile(r"\d{1,12}(?:\.\d{1,9})?", re.ASCII)


def retry_after_seconds(header: str | None, now: datetime, date: str | None = None) -> float | None:
    """Read both forms of the header (RFC 9110, 10.2.3: seconds, or an HTTP date); None for anything else.

    A date is measured by the reply's own Date header, if there is one: the clocks of this machine and of the provider
    may be minutes apart, so that we would come back too soon or wait for nothing.
    """
    text = (header or "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), LONGEST)
    moment = _date(text)
    sent_at = _date((date or "").strip()) or now
    return min(max((moment - sent_at).total_seconds(), 0.0), LONGEST) if moment else None


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
