"""The pages that a person may see: few words, one button, nothing from elsewhere, no script."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from hashlib import sha256
from http import HTTPStatus
from typing import NamedTuple

from starlette.responses import HTMLResponse, Response


class Words(NamedTuple):
    """What one page says; `ask` puts the button below it."""

    title: str
    text: str
    ask: bool = False


CONFIRM = Words("Unsubscribe", "Do you want to stop receiving these messages?", ask=True)
DONE = Words("You are unsubscribed", "We have noted it. It may take a little while until it holds everywhere.")
EXPIRED = Words("This link has expired", "Please use the link in a newer message, or write to its sender.")
UNKNOWN = Words("This link does not work", "Perhaps it was cut off: please copy all of it from the message.")
NOT_ASKED = Words("Nothing was changed", "Please open the link from the message and press the button there.")
LATER = Words("Please try again", "We could not note it just now. Nothing was changed: please try again in a minute.")

_STYLE = (
    ":root{color-scheme:light dark;font:1.125rem/1.5 system-ui,sans-serif}"
    "body{margin:0 auto;max-width:34rem;padding:2rem 1rem}"
    "button{font:inherit;padding:.75rem 1.5rem;min-height:3rem;cursor:pointer}"
    ":focus-visible{outline:.2rem solid;outline-offset:.2rem}"
)
_HASH = base64.b64encode(sha256(_STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
PRESSED, BY_PERSON = "pressed-by", "person"
"""A field that the page's own form has and a mail provider's has not."""

_BUTTON = (
    '<form method="post"><input type="hidden" name="List-Unsubscribe" value="One-Click">'
    f'<input type="hidden" name="{PRESSED}" value="{BY_PERSON}">'
    '<button type="submit">Unsubscribe</button></form>'
)


def page(words: Words, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    """Return a page; no cookie, no redirect, nothing to remember."""
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{words.title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
        f"<style>{_STYLE}</style></head><body><main><h1>{words.title}</h1>"
        f"<p{'' if words.ask else ' role=status'}>{words.text}</p>{_BUTTON if words.ask else ''}</main></body></html>"
    )
    return HTMLResponse(html, status, {"content-security-policy": POLICY, **(headers or {})})
