"""A person's destination in its one spelling: a number, an e-mail address or an e-mail domain."""

from __future__ import annotations

from typing import Annotated

from pydantic import WithJsonSchema

from consent.identifiers.normalize import (
    LOCAL_PATTERN,
    UnusableIdentifier,
    is_domain,
    is_email,
    without_scheme,
)
from consent.identifiers.phones import is_known, looks_like_number, read_number
from consent.row import or_whole_number, text_schema
from worker.providers.cells import Name


def read_destination(text: str, region: str) -> str:
    """Return a number as the digits of E.164, and a domain in lower case; the part before @ is kept to the letter.

    `mailto:` and `tel:` before it are left out. Raises UnusableIdentifier.
    """
    if "@" not in text and looks_like_number(text):
        return read_number(text, region)
    bare = without_scheme(text, "mailto:")
    if not is_email(bare) and (bare is not text or not is_domain(bare)):
        raise UnusableIdentifier("unusable_value", _REMEDY)
    if bare is not text and "%" in bare:
        raise UnusableIdentifier("unusable_value", "write the address itself, without mailto: and what it encodes")
    local, at, domain = bare.rpartition("@")
    return f"{local}{at}{domain.lower()}"


def doubt_about(destination: str) -> str | None:
    """Return why a destination may be a slip: a number that is not known to be in use, or a whole domain."""
    if destination.isdigit():
        return None if is_known(destination) else "unknown_number"
    return None if "@" in destination else "whole_domain"


_REMEDY = (
    "write a number with + and its country code (like +447700900123), an e-mail address (like ann@example.com) or an "
    "e-mail domain"
)
_WRITTEN = rf"^(\+?[1-9][0-9]{{6,14}}|({LOCAL_PATTERN}@)?[a-z0-9][a-z0-9-]*(\.[a-z][a-z0-9-]*)+)$"
Destination = Annotated[
    Name,
    WithJsonSchema(
        or_whole_number(text_schema(form=_WRITTEN), 1_000_000, 999_999_999_999_999)
        | {"description": "a number must be one that its country can have"}
    ),
]
"""International number without +, e-mail address, or e-mail domain (Infobip's OpenAPI description, `to`)."""
