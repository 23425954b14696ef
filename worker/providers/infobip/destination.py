"""A person's destination in its one spelling: a number, an e-mail address or an e-mail domain."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from consent.row import or_whole_number, text_schema
from worker.providers.cells import Name

_ORNAMENTS = re.compile(r"[\s().\-\u00a0]")
_NUMBER = re.compile(r"\+?([1-9]\d{3,14})", re.ASCII)  # ITU-T E.164: at most 15 digits, and none starts with 0
_DOMAIN = re.compile(r"(?!-)[\w-]+(\.[\w-]+)+")
_LOCAL = re.compile(r"[^\s@]+")


def _destination(text: str) -> str:
    """Write a number without + and ornaments, and a domain in lower case; the part before @ is kept to the letter."""
    number = _NUMBER.fullmatch(_ORNAMENTS.sub("", text))
    if number:
        return number[1]
    local, at, domain = text.rpartition("@")
    if not _DOMAIN.fullmatch(domain) or not _has_letter(domain) or bool(at) != bool(_LOCAL.fullmatch(local)):
        raise PydanticCustomError(
            "unusable_value",
            "write a number with its country code (like 15550100), an e-mail address or an e-mail domain",
        )
    return f"{local}{at}{domain.lower()}"


def _has_letter(text: str) -> bool:
    return any(letter.isalpha() for letter in text)


_WRITTEN = r"^(\+?[1-9][0-9]{3,14}|([^\s@\u0000-\u001f\ufffd]+@)?[a-z0-9][a-z0-9-]*(\.[a-z][a-z0-9-]*)+)$"
Destination = Annotated[
    Name,
    AfterValidator(_destination),
    WithJsonSchema(or_whole_number(text_schema(form=_WRITTEN), 1000, 999_999_999_999_999)),
]
"""International number without +, e-mail address, or e-mail domain (Infobip's OpenAPI description, `to`)."""
