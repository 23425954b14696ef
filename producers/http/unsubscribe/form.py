"""The unsubscribe form of RFC 8058, and how it is read.

https://www.rfc-editor.org/rfc/rfc8058
"""

from __future__ import annotations

from collections.abc import Iterable
from email import message_from_bytes
from email.message import Message
from urllib.parse import parse_qs

FIELD, VALUE = "List-Unsubscribe", "One-Click"
URL_ENCODED, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"


PRESSED, BY_PERSON = "pressed-by", "person"  # a field that our own form has and a mail provider's has not


def is_one_click(content_type: str, body: bytes) -> bool:
    """Whether a form says `List-Unsubscribe=One-Click`, in either of the two encodings that RFC 8058 allows.

    What the content type says does not matter, nor white space around the value: an opt-out that is refused is the
    worse mistake, and no scanner that follows links sends this form. What cannot be read at all says nothing.
    """
    if _has_value(_fields(body).get(FIELD, ())):
        return True
    try:
        return _has_value(_texts_of_parts(content_type, body))
    except (ValueError, TypeError, LookupError):  # the parser stumbles over some headers that no program writes
        return False


def _texts_of_parts(content_type: str, body: bytes) -> list[str]:
    """Return what the field holds in the parts of a multipart form; raises what the parser of the library raises."""
    if content_type.partition(";")[0].strip().lower() != MULTIPART:
        if not body.startswith(b"--"):
            return []
        boundary = body.partition(b"\n")[0].removeprefix(b"--").strip().decode("latin-1").replace('"', "")
        content_type = f'{MULTIPART}; boundary="{boundary}"'
    form = message_from_bytes(b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n" + body)
    parts = [part for part in form.walk() if not part.is_multipart()]
    return [_text_of(part) for part in parts if part.get_param("name", header="content-disposition") == FIELD]


def is_from_page(body: bytes) -> bool:
    """Whether a form comes from the button of our own page, which a person has pressed."""
    return _fields(body).get(PRESSED) == [BY_PERSON]


def _fields(body: bytes) -> dict[str, list[str]]:
    return parse_qs(body.decode("latin-1").strip())


def _has_value(values: Iterable[str]) -> bool:
    return any(value.strip() == VALUE for value in values)


def _text_of(part: Message) -> str:
    payload = part.get_payload(decode=True)
    return payload.decode("latin-1") if isinstance(payload, bytes) else ""
