"""What a provider does with a call: it replies, or it cuts the connection."""

import json
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Scope, Send

from sandbox.disconnects import cut

JSON = b"application/json;charset=UTF-8"
_NO_CONTENT = 204


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP reply; `code` is the provider's own code for the call log, `retry_after` is in whole seconds."""

    status: int
    body: bytes = b""
    code: int | str | None = None
    content_type: bytes = JSON
    retry_after: int | None = None
    location: str | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """No reply: the connection ends, by a TCP reset or by an ordinary close."""

    reset: bool


Answer = Reply | Cut


def json_reply(status: int, payload: Any, code: int | str | None = None) -> Reply:
    """Return a reply whose body is this payload as JSON."""
    return Reply(status, json.dumps(payload, ensure_ascii=False).encode(), code)


async def give(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """Carry an answer out on the connection the request came on."""
    match answer:
        case Cut(reset=reset):
            await cut(scope, receive, reset=reset)
        case Reply():
            await send({"type": "http.response.start", "status": answer.status, "headers": _headers(answer)})
            await send({"type": "http.response.body", "body": answer.body})


def _headers(reply: Reply) -> list[tuple[bytes, bytes]]:
    if reply.status == _NO_CONTENT:  # has no body, and so no length of one
        return []
    headers = [(b"content-type", reply.content_type), (b"content-length", b"%d" % len(reply.body))]
    if reply.retry_after is not None:
        headers.append((b"retry-after", b"%d" % reply.retry_after))
    if reply.location is not None:
        headers.append((b"location", reply.location.encode()))
    return headers
