"""From HTTP status and body to the one code that decides about a reply."""

from __future__ import annotations

from http import HTTPStatus

from worker.providers.capillary.body import Body
from worker.providers.capillary.codes import INSPECT, MEANINGS, Meaning, Next, meaning_of

_STATUS_DECIDES = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)
_SERVER_ERRORS = range(500, 600)
_REDIRECTS = range(300, 400)
_SUCCESSES = range(200, 300)


def judge(status: int, body: Body) -> Meaning:
    """Return what a reply means: its body's codes decide before its status, because a success may be none.

    Of several codes the one decides that stands first in `Next`.
    """
    if status in _STATUS_DECIDES:
        return MEANINGS[status]
    if body.codes:
        return min((meaning_of(code) for code in body.codes), key=lambda meaning: meaning.next)
    if status in _SUCCESSES or body.failed or body.partial:
        return INSPECT
    return _without_codes(status, body)


def _without_codes(status: int, body: Body) -> Meaning:
    if status in _REDIRECTS:
        return Meaning(str(status), Next.REFUSED, "Capillary redirects elsewhere: see the connection's BASE_URL")
    if (status in _SERVER_ERRORS and not body.is_capillary) or status == HTTPStatus.REQUEST_TIMEOUT:
        return Meaning(str(status), Next.UNWELL, "something before Capillary answered that it cannot be reached")
    if status == HTTPStatus.BAD_REQUEST and not body.is_json:
        return Meaning(str(status), Next.LATER, "the request was refused in a form that is not Capillary's")
    return meaning_of(status)
