"""The kinds of value that a Capillary column may hold, each with an error that says how to mend it."""

from __future__ import annotations

from typing import Annotated, NoReturn

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from consent.row import or_whole_number, text_schema, undamaged

_LONGEST = 2**63 - 1
_LONG_DIGITS = 19


def _number(text: str) -> str:
    if text.isdigit() and text.isascii() and text[0] != "0" and len(text) < _LONG_DIGITS:
        return text
    number = _whole(text)
    return str(number) if number > 0 else _not_a_number()


def _whole(value: object) -> int:
    if isinstance(value, str) and len(value) <= _LONG_DIGITS + 1:
        value = int(value) if value.isdigit() and value.isascii() else _signed(value.strip())
    if type(value) is int and -_LONGEST <= value <= _LONGEST:
        return value
    return _not_a_number()


def _signed(text: str) -> int:
    undamaged(text)
    return int(text) if text.isascii() and text.removeprefix("-").isdigit() else _not_a_number()


def _not_a_number() -> NoReturn:
    raise PydanticCustomError("not_a_number", "write a whole number, in digits only")


def _text(value: object) -> object:
    if isinstance(value, str):
        return undamaged(value) if "E" in value or "e" in value else value
    return str(value) if type(value) is int else value


CustomerNumber = Annotated[
    str,
    Field(coerce_numbers_to_str=True),
    AfterValidator(_number),
    WithJsonSchema(or_whole_number({"type": "string", "pattern": "^[1-9][0-9]{0,17}$"}, least=1)),
]
"""Capillary's internal customer number (a long): kept without leading zeros, so that it names one target."""

Long = Annotated[
    int,
    BeforeValidator(_whole),
    WithJsonSchema(or_whole_number({"type": "string", "pattern": "^-?[0-9]{1,18}$"})),
]
"""A whole number of 64 bits, where -1 means none."""

Text = Annotated[str, BeforeValidator(_text), WithJsonSchema(or_whole_number(text_schema()))]
"""Text kept to the letter; an event may write it as a number."""
