"""The two bodies in which Infobip reports an error."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sandbox.answers import Reply, json_reply
from sandbox.faults import as_http_status
from sandbox.infobip.settings import Envelope


class _Words(NamedTuple):
    message_id: str
    text: str


# Documented but for 405 and 409, which are INVENTED (409 is only known from a client that expects it).
_WORDS = {
    400: _Words("BAD_REQUEST", "Bad request"),
    401: _Words("UNAUTHORIZED", "Unauthorized"),
    403: _Words("FORBIDDEN", "Forbidden"),
    404: _Words("NOT_FOUND", "Not found"),
    405: _Words("METHOD_NOT_ALLOWED", "Method not allowed"),
    409: _Words("CONFLICT", "A subscription with this ID already exists"),
    429: _Words("TOO_MANY_REQUESTS", "Too many requests"),
    500: _Words("GENERAL_ERROR", "Something went wrong. Please contact support."),
}
_OTHER = _Words("GENERAL_ERROR", "Invented by the sandbox")
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
    words = _WORDS.get(code, _OTHER)
    said = text or words.text
    body = _classic(words, said, violations) if envelope == "classic" else _api(code, said, violations)
    return json_reply(as_http_status(code), body, words.message_id)


def _classic(words: _Words, text: str, violations: Violations | None) -> dict[str, Any]:
    exception: dict[str, Any] = {"messageId": words.message_id, "text": text}
    if violations:
        exception["validationErrors"] = {field: list(found) for field, found in violations.items()}
    return {"requestError": {"serviceException": exception}}


def _api(code: int, text: str, violations: Violations | None) -> dict[str, Any]:
    listed = [{"property": field, "violation": one} for field, found in (violations or {}).items() for one in found]
    said: dict[str, Any] = {"description": text, "action": "Check the request.", "resources": []}
    words = _THROTTLED if code == 429 and text == _WORDS[429].text else said  # noqa: PLR2004  Too Many Requests
    return {"errorCode": f"E{code}", "violations": listed, **words}
