"""The unsubscribe form of RFC 8058: the pages that show it or say what became of it, and how it is read.

The pages have few words, one button, nothing from elsewhere and no script. https://www.rfc-editor.org/rfc/rfc8058
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from email import message_from_bytes
from email.message import Message
from hashlib import sha256
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qs

from fastapi import Response
from fastapi.responses import HTMLResponse

FIELD, VALUE = "List-Unsubscribe", "One-Click"
URL_ENCODED, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"


class Text(NamedTuple):
    """What one page says; `ask` puts the button below it."""

    title: str
    text: str
    ask: bool = False


CONFIRM = Text("Unsubscribe", "Do you want to stop receiving these messages?", ask=True)
DONE = Text("You are unsubscribed", "We have noted it. It may take a little while until it holds everywhere.")
EXPIRED = Text("This link has expired", "Please use the link in a newer message, or write to its sender.")
UNKNOWN = Text("This link does not work", "Perhaps it was cut off: please copy all of it from the message.")
NOT_ASKED = Text("Nothing was changed", "Please open the link from the message and press the button there.")
LATER = Text("Please try again", "We could not note it just now. Nothing was changed: please try again in a minute.")

_STYLE = (
    ":root{color-scheme:light dark;font:1.125rem/1.5 system-ui,sans-serif}"
    "body{margin:0 auto;max-width:34rem;padding:2rem 1rem}"
    "button{font:inherit;padding:.75rem 1.5rem;min-height:3rem;cursor:pointer}"
    ":focus-visible{outline:.2rem solid;outline-offset:.2rem}"
)
_HASH = base64.b64encode(sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_PRESSED, _BY_PERSON = "pressed-by", "person"  # a field that our own form has and a mail provider's has not
_BUTTON = (
    f'<form method="post"><input type="hidden" name="{FIELD}" value="{VALUE}">'
    f'<input type="hidden" name="{_PRESSED}" value="{_BY_PERSON}">'
    '<button type="submit">Unsubscribe</button></form>'
)


def page(text: Text, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    """Return a page; no cookie, no redirect, nothing to remember."""
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{text.title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
        f"<style>{_STYLE}</style></head><body><main><h1>{text.title}</h1>"
        f"<p{'' if text.ask else ' role=status'}>{text.text}</p>{_BUTTON if text.ask else ''}</main></body></html>"
    )
    return HTMLResponse(html, status, {"content-security-policy": _POLICY, **(headers or {})})


def is_one_click(content_type: str, body: bytes) -> bool:
    """Whether a form says `List-Unsubscribe=One-Click`, in either of the two encodings that RFC 8058 allows.

    What the content type says does not matter, nor white space around the value: an opt-out that is refused is the
    worse mistake, and no scanner that follows links sends this form.
    """
    if _has_value(_fields(body).get(FIELD, ())):
        return True
    if content_type.partition(";")[0].strip().lower() != MULTIPART:
        if not body.startswith(b"--"):
            return False
        boundary = body.partition(b"\n")[0].removeprefix(b"--").strip().decode("latin-1").replace('"', "")
        content_type = f'{MULTIPART}; boundary="{boundary}"'
    form = message_from_bytes(b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n" + body)
    parts = [part for part in form.walk() if not part.is_multipart()]
    return _has_value(
        [_text_of(part) for part in parts if part.get_param("name", header="content-disposition") == FIELD]
    )


def is_from_page(body: bytes) -> bool:
    """Whether a form comes from the button of our own page, which a person has pressed."""
    return _fields(body).get(_PRESSED) == [_BY_PERSON]


def _fields(body: bytes) -> dict[str, list[str]]:
    return parse_qs(body.decode("latin-1").strip())


def _has_value(values: Iterable[str]) -> bool:
    return any(value.strip() == VALUE for value in values)


def _text_of(part: Message) -> str:
    payload = part.get_payload(decode=True)
    return payload.decode("latin-1") if isinstance(payload, bytes) else ""
