"""The answers to requests that cannot be served: RFC 9457, a code and a remedy, never a value that was sent."""

from __future__ import annotations

import math
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

CONTENT_TYPE = "application/problem+json"


class Problem(Exception):
    """A request that cannot be served. `retry_after` is in seconds; `closes` ends the connection with the answer."""

    def __init__(
        self, status: HTTPStatus, code: str, detail: str, retry_after: float | None = None, *, closes: bool = False
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
        self.closes = closes

    @classmethod
    def unexpected(cls) -> Problem:
        """Return the problem of a fault of ours: it tells nothing."""
        detail = "this is a fault of the server; nothing was acknowledged, and its log says where it is"
        return cls(HTTPStatus.INTERNAL_SERVER_ERROR, "unexpected", detail)

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to the answer."""
        headers = {"connection": "close"} if self.closes else {}
        if self.retry_after is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after)))
        if self.status is HTTPStatus.UNAUTHORIZED:
            headers["www-authenticate"] = 'Bearer realm="optrelay"'
        return headers

    def response(self) -> Response:
        """Return the answer."""
        body = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "code": self.code,
            "detail": self.detail,
        }
        return JSONResponse(body, self.status.value, self.headers, CONTENT_TYPE)


async def answer(_request: Request, problem: Problem) -> Response:
    """Answer a request that ended in a Problem."""
    return problem.response()


def ledger_away() -> Problem:
    """Return the problem of a ledger that cannot be used now; nothing about it is shown outside."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "ledger_unavailable",
        "nothing was acknowledged: send the same request again, with the same Idempotency-Key if it had one",
        retry_after=5,
    )


def too_busy() -> Problem:
    """Return the problem of a server with too much in hand."""
    detail = "too many requests are waiting for the ledger: send the same request again in a moment"
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "too_busy", detail, retry_after=2)
