"""The two bodies in which Infobip reports an error."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sandbox.answers import Reply, json_reply
from sandbox.faults import as_http_status
from sandbox.infobip.settings import Envelope


class _Texts(NamedTuple):
    message_id: str
    text: str


# Documented but for 405 and 409, which are INVENTED (409 is only known from a client that expects it).
_TEXTS = {
    400: _Texts("BAD_REQUEST", "Bad request"),
    401: _Texts("UNAUTHORIZED", "Unauthorized"),
    403: _Texts("FORBIDDEN", "Forbidden"),
    404: _Texts("NOT_FOUND", "Not found"),
    405: _Texts("METHOD_NOT_ALLOWED", "Method not allowed"),
    409: _Texts("CONFLICT", "A subscription with this ID already exists"),
    429: _Texts("TOO_MANY_REQUESTS", "Too many requests"),
    500: _Texts("GENERAL_ERROR", "Something went wrong. Please contact support."),
}
_OTHER = _Texts("GENERAL_ERROR", "Invented by the sandbox")
# The ApiError of 429 is printed in the documentation; INVENTED: the sentences of the others.
_THROTTLED = {
    "description": "Too many requests sent.",
    "action": "Check request rate limit specified in the API endpoint documentation resource.",
    "resources": [
        {
            "name": "Throttling handling errors",
            "url": "/docs/developer-resources/api-fundamentals/rate-limits-and-throttling",
        }
    ],
}
Violations = Mapping[str, Sequence[str]]


def error_reply(code: int, envelope: Envelope, text: str = "", violations: Violations | None = None) -> Reply:
    """Return an error in one of the two bodies; the call log's code is the classic `messageId`."""
    texts = _TEXTS.get(code, _OTHER)
    message = text or texts.text
    body = _classic(texts, message, violations) if envelope == "classic" else _api(code, message, violations)
    return json_reply(as_http_status(code), body, texts.message_id)


def _classic(texts: _Texts, text: str, violations: Violations | None) -> dict[str, Any]:
    exception: dict[str, Any] = {"messageId": texts.message_id, "text": text}
    if violations:
        exception["validationErrors"] = {field: list(found) for field, found in violations.items()}
    return {"requestError": {"serviceException": exception}}


def _api(code: int, text: str, violations: Violations | None) -> dict[str, Any]:
    listed = [{"property": field, "violation": one} for field, found in (violations or {}).items() for one in found]
    details: dict[str, Any] = {"description": text, "action": "Check the request.", "resources": []}
    texts = _THROTTLED if code == 429 and text == _TEXTS[429].text else details  # noqa: PLR2004  Too Many Requests
    return {"errorCode": f"E{code}", "violations": listed, **texts}
