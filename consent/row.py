"""The model of one row or event: what every provider's row has, and what each provider's row must say of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from typing import Annotated, Any, ClassVar, NamedTuple, Self, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, WithJsonSchema
from pydantic_core import PydanticCustomError

from consent.change import Action
from consent.identifiers.normalize import UNSEEN_PATTERN, UnusableIdentifier, clean, refuse_rounded
from consent.identifiers.suppression import SuppressionRules
from consent.times import PATTERN, read_time

T = TypeVar("T")


def undamaged(value: object) -> object:
    """Refuse a number that a spreadsheet has rounded to something like 9.19E+11: its digits are gone."""
    if isinstance(value, str):
        checked(refuse_rounded, value)
    return value


def checked(read: Callable[..., T], *given: object) -> T:
    """Call a reader of identifiers; its UnusableIdentifier becomes an error of pydantic's."""
    try:
        return read(*given)
    except UnusableIdentifier as error:
        raise PydanticCustomError(error.code, error.message) from None


def named(value: object) -> object:
    """Return text that names something without invisible characters around it; a whole number as its text."""
    text = str(value) if type(value) is int else value
    return checked(_named, text) if isinstance(text, str) else text


def _named(text: str) -> str:
    refuse_rounded(found := clean(text))
    return found


Identifier = Annotated[str, BeforeValidator(undamaged), Field(min_length=1, max_length=255)]
"""Text that names something at a provider, kept to the letter."""

_LOST = r"\u0000\ufffd"
NAME_FORM = rf"^(?!\s*['=])[^{UNSEEN_PATTERN}]*[^\s{UNSEEN_PATTERN}][^{UNSEEN_PATTERN}]*$"
"""What a name may look like, for JSON Schema: nothing in it is invisible, and no spreadsheet's mark is before it."""

_TEXT = rf"^[^{_LOST}]*[^\s\u0000-\u001f\ufffd][^{_LOST}]*$"


def text_schema(longest: int | None = 255, form: str = _TEXT) -> dict[str, Any]:
    """Return the JSON Schema of text that is not blank, is of this form, and was not rounded by a spreadsheet."""
    schema: dict[str, Any] = {"type": "string", "minLength": 1, "pattern": form}
    damaged = r"(^|\|)\s*[+-]?[0-9]+([.,][0-9]+)?[eE][+-]?[0-9]+\s*($|\|)"
    return schema | {"not": {"pattern": damaged}} | ({"maxLength": longest} if longest else {})


def or_whole_number(schema: dict[str, Any], least: int = -(2**63) + 1, most: int = 2**63 - 1) -> dict[str, Any]:
    """Return the JSON Schema of something that may be written as a whole number as well."""
    return {"anyOf": [schema, {"type": "integer", "minimum": least, "maximum": most}]}


LONGEST_SLOT = 2_400
"""Bytes of the longest slot: PostgreSQL's index of slots takes no key of more than about 2,700 (a third of a page)."""

WARNINGS = {
    "unknown_number": "numbers that are possible but not known to be in use",
    "whole_domain": "whole e-mail domains in place of addresses",
}
"""Targets that may be meant and may be a slip: their changes are delivered, and counted for people to see."""


class SlotChange(NamedTuple):
    """What a row says about one slot.

    `slot` is the smallest thing inside the target that can be in or out, as text that never changes form; `details` are
    further parameters of the provider, as JSON values; `value` is what the slot is to hold, where that is more than in
    or out.
    """

    slot: str
    details: dict[str, Any]
    value: str = ""


class RowChanges(NamedTuple):
    """What a row says: of which target, and of each of its slots; most rows name one.

    `address` names the target at the provider: the only part that may name a person. `bucket` is the limit that calls
    for this target fall under, if its connection has several.
    """

    address: dict[str, str]
    slots: tuple[SlotChange, ...]
    bucket: str = ""


class ConsentRow(BaseModel):
    """What every row may say; each provider adds its own columns and says what they mean.

    Empty cells are left out before a row comes here, so a missing field is an empty one.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", str_strip_whitespace=True)

    action: Action
    effective_at: Annotated[
        Annotated[datetime, BeforeValidator(read_time)] | None,
        WithJsonSchema({"type": "string", "format": "date-time", "pattern": PATTERN}),
    ] = Field(None, description="when the person said it, with its zone; never in the future")
    change_id: Annotated[str | None, Field(max_length=255), WithJsonSchema(text_schema())] = Field(
        None, description="your own name of this change: the same change under the same name is recorded once"
    )

    remedies: ClassVar[dict[str, str]] = {}

    names_target: ClassVar[frozenset[str]] = frozenset()
    """Columns that differ from row to row: the address gives each under its own name, or leaves it out, and nothing
    else that a row says depends on what stands in them, only on whether anything does."""

    address_columns: ClassVar[frozenset[str]] = frozenset()
    """All that an address can hold."""

    narrows: ClassVar[frozenset[str]] = frozenset()
    """Columns that may stand beside those of a person to say on what; a person who asks may give them."""

    contextual: ClassVar[frozenset[str]] = frozenset()
    """Columns of `names_target` whose value depends on more than its cell, and may be a slip."""

    region: ClassVar[str] = ""
    """The country (ISO 3166, like GB) in which numbers without a country code are at home; "" for none."""

    suppression: ClassVar[SuppressionRules | None] = None
    """How its provider names persons, and which slots stand for a channel; None if its targets are no persons."""

    @classmethod
    def in_region(cls, region: str) -> type[Self]:
        """Return the same rows with national numbers of a country; the same class each time."""
        return cast(type[Self], _variant(cls, "region", region)) if region else cls

    allows_domains: ClassVar[bool] = True
    """Whether a whole e-mail domain may stand where a person belongs, and so everyone at it."""

    @classmethod
    def without_domains(cls) -> type[Self]:
        """Return the same rows that refuse whole e-mail domains; the same class each time."""
        return cast(type[Self], _variant(cls, "allows_domains", False))  # noqa: FBT003 - the attribute's value

    @classmethod
    def target_value(cls, column: str, text: str, address: Mapping[str, object]) -> str:
        """Return what a column of `contextual` holds, as it is sent, in a row of this address.

        Raises PydanticCustomError.
        """
        del column, address
        return text

    @classmethod
    def target_rule(cls, column: str, address: Mapping[str, object]) -> Callable[[object], str]:
        """Return the whole rule for the cells of a column that names a target, in rows of this address."""
        rule, value = cell_rule(cls, column), cls.target_value
        return (lambda cell: value(column, rule(cell), address)) if column in cls.contextual else rule

    @classmethod
    def warning(cls, address: Mapping[str, str]) -> str | None:
        """Return what a person should check before a change of such a target is delivered: one of `WARNINGS`."""
        del address
        return None

    def changes(self) -> RowChanges:
        """Return what the row says: its target, and each slot that it names."""
        raise NotImplementedError


@cache
def _variant(model: type[ConsentRow], attribute: str, value: object) -> type[ConsentRow]:
    return type(model.__name__, (model,), {attribute: value, "__module__": model.__module__, "__doc__": model.__doc__})


@cache
def cell_rule(model: type[ConsentRow], column: str) -> Callable[[object], Any]:
    """Return a row model's own rule for the cells of one column, which raises pydantic's ValidationError."""
    field = model.model_fields[column]
    kind: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return TypeAdapter(kind, config={"str_strip_whitespace": True}).validator.validate_python
