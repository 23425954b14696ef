"""The kinds of value that a Capillary column may hold, each with an error that says how to mend it."""

from __future__ import annotations

from typing import Annotated, NoReturn

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from consent.identifiers.normalize import (
    LOCAL_PATTERN,
    UnusableIdentifier,
    clean,
    is_email,
    refuse_damaged,
    without_scheme,
)
from consent.identifiers.phones import read_number
from consent.row import NAME_FORM, checked, named, or_whole_number, text_schema

_LONGEST = 2**63 - 1
_LONG_DIGITS = 19


def _number(text: str) -> str:
    if text.isdigit() and text.isascii() and text[0] != "0" and len(text) < _LONG_DIGITS:
        return text
    number = _whole(checked(clean, text))
    return str(number) if number > 0 else _not_a_number()


def _whole(value: object) -> int:
    if isinstance(value, str) and len(value) <= _LONG_DIGITS + 1:
        value = int(value) if value.isdigit() and value.isascii() else _signed(value.strip())
    if type(value) is int and -_LONGEST <= value <= _LONGEST:
        return value
    return _not_a_number()


def _signed(text: str) -> int:
    checked(refuse_damaged, text)
    return int(text) if text.isascii() and text.removeprefix("-").isdigit() else _not_a_number()


def _not_a_number() -> NoReturn:
    raise PydanticCustomError("not_a_number", "write a whole number, in digits only")


def read_identifier(name: object, text: str, region: str) -> str:
    """Return the value of an identifier of this kind (`mobile`, `email`, …) as it is sent; raise UnusableIdentifier.

    A mobile number keeps its + or the lack of one. Digits alone are kept to the letter where no region is set: only
    Capillary knows which country its customers' numbers belong to. Anything else becomes the digits of E.164.
    """
    if name == "email":
        bare = without_scheme(text, "mailto:")
        if not is_email(bare) or (bare is not text and "%" in bare):
            raise UnusableIdentifier("unusable_value", "write an e-mail address, like ann@example.com")
        return bare
    if name == "mobile" and not (text.isdigit() and text.isascii() and not region):
        return ("+" if text.startswith("+") else "") + read_number(text, region)
    if name == "cardNumber":
        refuse_damaged(text)
    return text


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

Text = Annotated[str, BeforeValidator(named), WithJsonSchema(or_whole_number(text_schema(form=NAME_FORM)))]
"""Text kept to the letter but for what nobody sees of it; an event may write it as a number."""

EMAIL_SCHEMA = text_schema(form=rf"^{LOCAL_PATTERN}@[A-Za-z0-9][A-Za-z0-9-]*(\.[A-Za-z][A-Za-z0-9-]*)+$")
MOBILE_SCHEMA = or_whole_number(text_schema(form="^[1-9][0-9]{6,14}$"), 1_000_000, 999_999_999_999_999)
"""Values of identifiers as a producer should write them."""
