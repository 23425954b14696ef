"""A row about a Capillary customer: its columns, the slot that it changes, and the way back to columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring as quoted  # not escaped: a slot is a key, and keys are limited in bytes
from typing import Annotated, Any, ClassVar, NoReturn, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from consent.identifiers.normalize import (
    LOCAL_PATTERN,
    UnusableIdentifier,
    clean,
    is_email,
    refuse_damaged,
    refuse_lookalikes,
    refuse_rounded,
    without_scheme,
)
from consent.identifiers.phones import is_known, read_number
from consent.identifiers.suppression import Question, SuppressionRules
from consent.row import NAME_FORM, ConsentRow, RowChanges, SlotChange, checked, named, or_whole_number, text_schema
from worker.providers.row_fields import Spellings, error_at

CHANNELS = ("MOBILE", "EMAIL", "wechat", "whatsapp", "ios", "android", "line")
PRIORITIES = ("TRANS", "BULK")
IDENTIFIERS = ("mobile", "email", "externalId", "cardExternalId", "cardNumber")
SOURCES = (
    "INSTORE FACEBOOK WEB_ENGAGE WECHAT MARTJACK TMALL TAOBAO JD ECOMMERCE WEBSITE LINE MOBILE_APP".split()  # noqa: SIM905
)
DEFAULT_SOURCE = "INSTORE"
"""Where a customer is looked up if neither the row nor the connection's DEFAULTS name a `source`."""

_CHANNELS, _PRIORITIES = Spellings(CHANNELS, SMS="MOBILE"), Spellings(PRIORITIES)
_IDENTIFIERS, _SOURCES = Spellings(IDENTIFIERS), Spellings(SOURCES)
Channel = Annotated[str, AfterValidator(_CHANNELS.__getitem__), WithJsonSchema(_CHANNELS.schema())]
Priority = Annotated[str, AfterValidator(_PRIORITIES.__getitem__), WithJsonSchema(_PRIORITIES.schema())]
IdentifierName = Annotated[str, AfterValidator(_IDENTIFIERS.__getitem__), WithJsonSchema(_IDENTIFIERS.schema())]
Source = Annotated[str, AfterValidator(_SOURCES.__getitem__), WithJsonSchema(_SOURCES.schema())]


@dataclass(frozen=True, slots=True)
class Slot:
    """The smallest thing that a customer can be in or out of."""

    channel: str
    account: str
    priority: str
    org_unit: int


def slot_text(channel: str, account: str, priority: str, org_unit: int) -> str:
    """Write a slot as a JSON array, like `["EMAIL","01","BULK",-1]`."""
    return f'["{channel}",{quoted(account)},"{priority}",{org_unit}]'


@lru_cache(maxsize=4096)  # there are few, and each is read for every change
def read_slot(text: str) -> Slot:
    """Read what `slot_text` wrote."""
    return Slot(*json.loads(text))


_LONGEST = 2**63 - 1
_LONG_DIGITS = 19


def _number(text: str) -> str:
    if text.isdigit() and text.isascii() and text[0] != "0" and len(text) < _LONG_DIGITS:
        return text
    number = _whole(checked(clean, text))
    return str(number) if number > 0 else _not_a_number()


def _whole(value: object) -> int:
    if isinstance(value, str) and len(value) <= _LONG_DIGITS + 1:
        value = int(value) if value.removeprefix("-").isdigit() and value.isascii() else _signed(value.strip())
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
        refuse_lookalikes(bare)
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
"""Text kept to the letter but for invisible characters; an event may write it as a number."""

EMAIL_SCHEMA = text_schema(form=rf"^{LOCAL_PATTERN}@[A-Za-z0-9][A-Za-z0-9-]*(\.[A-Za-z][A-Za-z0-9-]*)+$")
MOBILE_SCHEMA = or_whole_number(text_schema(form="^[1-9][0-9]{6,14}$"), 1_000_000, 999_999_999_999_999)
"""Values of identifiers as a producer should write them."""


def _value_of(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema rule for the value of this kind of identifier."""
    named = {"required": ["identifier_name", "identifier_value"], "properties": {"identifier_name": {"const": name}}}
    return {"if": named, "then": {"properties": {"identifier_value": schema}}}


def _addresses(kind: str, text: str, region: str) -> list[Mapping[str, str]]:
    """Return a customer's address by this kind of name, without where it is looked up."""
    bare = clean(text)
    if kind == "user_id":
        if not (bare.isascii() and bare.isdigit() and int(bare) > 0):
            raise UnusableIdentifier("not_a_number", "write a whole number, in digits only")
        return [{"user_id": str(int(bare))}]
    refuse_rounded(bare)
    return [{"identifier_name": kind, "identifier_value": read_identifier(kind, bare, region)}]


def _kind(form: Mapping[str, str]) -> str | None:
    return "user_id" if "user_id" in form else form.get("identifier_name")


def _stops(slot: str, question: Question) -> bool:
    parts = read_slot(slot)
    return parts.channel == SHARED_CHANNELS.get(question.channel) and question.priority in ("", parts.priority)


SHARED_CHANNELS = {{"MOBILE": "SMS"}.get(name, name.upper()): name for name in CHANNELS}
SUPPRESSION = SuppressionRules(
    frozenset({"user_id", *IDENTIFIERS}), SHARED_CHANNELS, PRIORITIES, _addresses, _kind, _stops, str.__eq__
)
"""An opt-out for any account and org unit forbids its channel and priority."""


class CapillaryRow(ConsentRow):
    """What a row says of a Capillary customer (docs.capillarytech.com/reference/update_subscription_details).

    The customer is named by `user_id`, or else by `identifier_name` and `identifier_value` in a `source`; where both
    are given, `user_id` wins. A row that gives no `source` means INSTORE: `source_name` says where the consent was
    collected, which is no part of who the customer is. A row without `account_id` or `org_unit_id` means "" and -1, as
    the vendor's own samples do.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": ["user_id"]}, {"required": ["identifier_name", "identifier_value"]}],
            "allOf": [_value_of("email", EMAIL_SCHEMA), _value_of("mobile", MOBILE_SCHEMA)],
        }
    )

    user_id: CustomerNumber | None = None
    identifier_name: IdentifierName | None = None
    identifier_value: Annotated[Text, Field(min_length=1, max_length=255)] | None = None
    source: Source | None = None
    source_account_id: Annotated[Text, Field(max_length=255)] | None = None

    channel: Channel
    priority: Priority
    account_id: Annotated[Text, Field(max_length=255)] = ""
    org_unit_id: Long = -1

    source_name: Source | None = None
    reason: str | None = None
    campaign_id: Long | None = None
    communication_id: Long | None = None
    scope: str | None = None
    sub_scope: str | None = None

    names_target: ClassVar[frozenset[str]] = frozenset({"user_id", "identifier_value"})
    contextual: ClassVar[frozenset[str]] = frozenset({"identifier_value"})
    address_columns: ClassVar[frozenset[str]] = names_target | {"identifier_name", "source", "source_account_id"}

    suppression: ClassVar = SUPPRESSION

    remedies: ClassVar[dict[str, str]] = {
        "user_id": "give Capillary's customer number, or identifier_name and identifier_value",
        "identifier_name": f"write one of {', '.join(IDENTIFIERS)}",
        "channel": f"write one of {', '.join(CHANNELS)}",
        "priority": "write TRANS for transactional or BULK for promotional messages",
        "source": f"write one of {', '.join(SOURCES)}",
        "source_name": f"write one of {', '.join(SOURCES)}",
    }

    @field_validator("identifier_value", mode="after")
    @classmethod
    def _read_identifier(cls, text: str | None, info: ValidationInfo) -> str | None:
        unused = text is None or info.data.get("user_id") is not None
        return text if unused else cls.target_value("identifier_value", str(text), info.data)

    @classmethod
    def target_value(cls, column: str, text: str, address: Mapping[str, object]) -> str:
        """Return an identifier as it is sent, by the kind of identifier that it is."""
        del column
        return checked(read_identifier, address.get("identifier_name"), text, cls.region)

    @classmethod
    def warning(cls, address: Mapping[str, str]) -> str | None:
        """Return whether a mobile number with its country code may be a slip."""
        number = address.get("identifier_value", "") if address.get("identifier_name") == "mobile" else ""
        is_whole = number.startswith("+") or (number and cls.region)
        return "unknown_number" if is_whole and not is_known(number.removeprefix("+")) else None

    @model_validator(mode="after")
    def _names_a_customer(self) -> Self:
        if self.user_id is None and (self.identifier_name is None or self.identifier_value is None):
            raise error_at(*_missing(self))
        return self

    def changes(self) -> RowChanges:
        """Return channel, account, priority and org unit as one slot, with the other columns that go into the body."""
        slot, filled = slot_text(self.channel, self.account_id, self.priority, self.org_unit_id), self.__dict__
        details = {name: filled[name] for name in _DETAILS if filled[name] is not None}
        return RowChanges(self._address(), (SlotChange(slot, details),))

    def _address(self) -> dict[str, str]:
        """Return the customer's number, or else what the lookup form asks for."""
        if self.user_id is not None:
            return {"user_id": self.user_id}
        address = {
            "identifier_name": self.identifier_name or "",
            "identifier_value": self.identifier_value or "",
            "source": self.source or DEFAULT_SOURCE,
        }
        if self.source_account_id:
            address["source_account_id"] = self.source_account_id
        return address


def export(address: Mapping[str, str], slot: str, details: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns of a row that means the same: read again, it gives the same target, slot and details."""
    parts = read_slot(slot)
    columns = {
        "channel": parts.channel,
        "priority": parts.priority,
        "account_id": parts.account,
        "org_unit_id": str(parts.org_unit),
    }
    return {**address, **columns, **{name: str(value) for name, value in details.items()}}


_DETAILS = ("source_name", "reason", "campaign_id", "communication_id", "scope", "sub_scope")


def _missing(row: CapillaryRow) -> tuple[str, str, str]:
    if row.identifier_name is not None:
        return "identifier_value", "missing_field", "identifier_name is filled, but identifier_value is not"
    if row.identifier_value is not None:
        return "identifier_name", "missing_field", "identifier_value is filled, but identifier_name is not"
    message = "the row names no customer: fill user_id, or identifier_name and identifier_value"
    return "user_id", "missing_field", message
