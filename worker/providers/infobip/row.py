"""The door for a row about an Infobip subscription or a person on Infobip's blocklist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from consent.change import Action
from consent.row import LONGEST_SLOT, ConsentRow, Wish, checked, text_schema
from worker.providers.cells import Members, Name, PathName, digest, fault_at
from worker.providers.infobip.channel_events import CHANNELS
from worker.providers.infobip.destination import Destination, doubt_about, read_destination
from worker.providers.infobip.slots import (
    CRITERION_NAMES,
    FIELD,
    Place,
    blocked_text,
    criterion_key,
    slot_text,
)

BLOCKLIST = "blocklist"
"""The bucket of blocklist calls: Infobip limits them by themselves."""

CREATE_CHANNELS = ("SMS", "EMAIL", "VIBER", "RCS", "MMS", "WHATSAPP")
REMOVE_CHANNELS = (*CREATE_CHANNELS, "APPLE_MB")
"""Where an entry can be made, and where it can be removed (Infobip's OpenAPI description of /platform/1/blocklists)."""


def _channel(text: str) -> str:
    return text.strip().upper().replace("-", "_").replace(" ", "_")


def _upper(members: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(member.upper() for member in members))


_NAMED = ("events", "resources", "users", *CRITERION_NAMES, "name", "profile_id")
_ALTERNATIVES: list[Any] = [
    {
        "required": ["destination"],
        "properties": {"subscription_id": False, "channel": {"enum": list(CREATE_CHANNELS)}},
    },
    {
        "required": ["subscription_id", "channel"],
        "properties": {"destination": False, "channel": {"enum": list(CHANNELS)}},
        "anyOf": [{"required": [name]} for name in _NAMED],
    },
]


class InfobipRow(ConsentRow):
    """What a row says of a subscription (`subscription_id`) or of a person on the blocklist (`destination`).

    OPTIN adds what the row names to the subscription and OPTOUT removes it (page "Update subscription"); `name` and
    `profile_id` set those fields. On the blocklist OPTOUT makes an entry and OPTIN removes it.
    """

    model_config = ConfigDict(json_schema_extra={"oneOf": _ALTERNATIVES})

    channel: Annotated[Name, AfterValidator(_channel), WithJsonSchema({"type": "string"})] | None = None

    subscription_id: PathName | None = None
    events: Annotated[Members, AfterValidator(_upper)] | None = None
    resources: Members | None = None
    users: Members | None = None
    application_id: Name | None = None
    entity_id: Name | None = None
    calls_configuration_id: Name | None = None
    name: Annotated[str, Field(min_length=1, max_length=255), WithJsonSchema(text_schema())] | None = None
    profile_id: Name | None = None

    destination: Destination | None = None
    sender: Name | None = None

    names_target: ClassVar[frozenset[str]] = frozenset({"destination"})
    doubtful: ClassVar[frozenset[str]] = names_target
    address_columns: ClassVar[frozenset[str]] = names_target | {"channel", "subscription_id"}
    narrows: ClassVar[frozenset[str]] = frozenset({"channel", "sender"})

    remedies: ClassVar[dict[str, str]] = {
        "events": "name the events, separated by |",
        "subscription_id": "give the id of the subscription, or the destination of a person",
    }

    @field_validator("destination", mode="after")
    @classmethod
    def _read_destination(cls, text: str | None) -> str | None:
        return None if text is None else cls.target_value("destination", text, {})

    @classmethod
    def target_value(cls, column: str, text: str, address: Mapping[str, object]) -> str:
        """Return a destination in its one spelling."""
        del column, address
        return checked(read_destination, text, cls.region)

    @classmethod
    def doubt(cls, address: Mapping[str, str]) -> str | None:
        """Return whether a destination may be a slip."""
        return doubt_about(address["destination"]) if "destination" in address else None

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        if self.destination is not None and self.subscription_id is not None:
            raise fault_at("destination", "ambiguous_row", _BOTH)
        if self.destination is not None:
            return self._may_be_blocked()
        if self.subscription_id is None:
            raise fault_at("subscription_id", "missing_field", _NEITHER)
        return self._names_a_change()

    def _may_be_blocked(self) -> Self:
        allowed = CREATE_CHANNELS if self.action is Action.OPTOUT else REMOVE_CHANNELS
        if self.channel is not None and self.channel not in allowed:
            raise fault_at("channel", "unknown_value", _NO_BLOCKING, known=", ".join(allowed))
        return self

    def _names_a_change(self) -> Self:
        if self.channel is None:
            raise fault_at("channel", "missing_field", "a subscription needs its channel: fill channel")
        if self.channel not in CHANNELS:
            raise fault_at("channel", "unknown_value", "write one of {known}", known=", ".join(CHANNELS))
        if not (wishes := self.wishes()):
            raise fault_at("events", "missing_field", _NOTHING)
        if any(len(wish.slot.encode()) > LONGEST_SLOT for wish in wishes):
            raise fault_at("application_id", "too_long", _TOO_LONG)
        return self

    def address(self) -> dict[str, str]:
        """Return channel and id of a subscription, or a person's destination."""
        if self.destination is None:
            return {"channel": self.channel or "", "subscription_id": self.subscription_id or ""}
        return {"destination": self.destination}

    def bucket(self) -> str:
        """Return the limit that the calls fall under."""
        return BLOCKLIST if self.destination is not None else ""

    def wishes(self) -> tuple[Wish, ...]:
        """Return a wish for each member and each field that the row names, or for the person's entry."""
        if self.destination is not None:
            return (Wish(blocked_text(Place(self.channel or "", self.sender or "")), {}),)
        sets = {"events": self.events, "resources": self.resources, "users": self.users}
        members = [Wish(slot_text(kind, one), {}) for kind, named in sets.items() for one in named or ()]
        fields = {"name": self.name, "profile_id": self.profile_id}
        set_to = [Wish(slot_text(FIELD, name), {name: text}, digest(text)) for name, text in fields.items() if text]
        return (*members, *self._criterion(), *set_to)

    def _criterion(self) -> list[Wish]:
        parts = {theirs: getattr(self, ours) for ours, theirs in CRITERION_NAMES.items()}
        return [Wish(slot_text("criteria", criterion_key(parts)), {})] if any(parts.values()) else []


_BOTH = "the row names a subscription and a person: fill subscription_id or destination, and use two rows for both"
_NEITHER = "the row names nothing: fill subscription_id and channel, or the destination of a person"
_NO_BLOCKING = "the blocklist has no such channel for this action: write one of {known}, or leave it empty for all"
_TOO_LONG = "application_id, entity_id and calls_configuration_id are too long together: shorten one of them"
_NOTHING = (
    "the row does not say what to add or remove: fill events, resources, users, application_id, entity_id or "
    "calls_configuration_id, or set name or profile_id"
)
