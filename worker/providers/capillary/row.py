"""The door for a row about a Capillary customer: which columns it has, and what they may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from consent.identifiers.phones import is_known
from consent.row import ConsentRow, checked
from worker.providers.capillary.columns import EMAIL_SCHEMA, MOBILE_SCHEMA, CustomerNumber, Long, Text, read_identifier
from worker.providers.capillary.slots import slot_text
from worker.providers.spellings import Spellings

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


def _value_of(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema that the value of this kind of identifier keeps."""
    named = {"required": ["identifier_name", "identifier_value"], "properties": {"identifier_name": {"const": name}}}
    return {"if": named, "then": {"properties": {"identifier_value": schema}}}


class CapillaryRow(ConsentRow):
    """What a row says of a Capillary customer (docs.capillarytech.com/reference/update_subscription_details).

    The customer is named by `user_id`, or else by `identifier_name` and `identifier_value` in a `source`; where both
    are given, `user_id` wins. A row that gives no `source` means INSTORE: `source_name` says where the consent was
    collected, which is no part of whom it is about. A row that gives no `account_id` or `org_unit_id` means "" and -1,
    as the vendor's own samples do.
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
    doubtful: ClassVar[frozenset[str]] = frozenset({"identifier_value"})
    address_columns: ClassVar[frozenset[str]] = names_target | {"identifier_name", "source", "source_account_id"}

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
    def _read_identifier(cls, text: str | None, told: ValidationInfo) -> str | None:
        unused = text is None or told.data.get("user_id") is not None
        return text if unused else cls.target_value("identifier_value", str(text), told.data)

    @classmethod
    def target_value(cls, column: str, text: str, address: Mapping[str, object]) -> str:
        """Return an identifier as it is sent, by the kind of identifier that it is."""
        del column
        return checked(read_identifier, address.get("identifier_name"), text, cls.region)

    @classmethod
    def doubt(cls, address: Mapping[str, str]) -> str | None:
        """Return whether a mobile number with its country code may be a slip."""
        number = address.get("identifier_value", "") if address.get("identifier_name") == "mobile" else ""
        is_whole = number.startswith("+") or (number and cls.region)
        return "unknown_number" if is_whole and not is_known(number.removeprefix("+")) else None

    @model_validator(mode="after")
    def _names_a_customer(self) -> Self:
        if self.user_id is None and (self.identifier_name is None or self.identifier_value is None):
            raise ValidationError.from_exception_data("CapillaryRow", [_missing(self)])
        return self

    def address(self) -> dict[str, str]:
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

    def slot(self) -> str:
        """Return channel, account, priority and org unit as one text."""
        return slot_text(self.channel, self.account_id, self.priority, self.org_unit_id)

    def details(self) -> dict[str, Any]:
        """Return the columns that go into the body beside the row's slot, where they are filled."""
        filled = self.__dict__
        return {name: filled[name] for name in _DETAILS if filled[name] is not None}


_DETAILS = ("source_name", "reason", "campaign_id", "communication_id", "scope", "sub_scope")


def _missing(row: CapillaryRow) -> Any:
    if row.identifier_name is not None:
        column, message = "identifier_value", "identifier_name is filled, but identifier_value is not"
    elif row.identifier_value is not None:
        column, message = "identifier_name", "identifier_value is filled, but identifier_name is not"
    else:
        column, message = "user_id", "the row names no customer: fill user_id, or identifier_name and identifier_value"
    return {"type": PydanticCustomError("missing_field", message), "loc": (column,), "input": None}
