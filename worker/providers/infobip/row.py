"""A row about an Infobip subscription, or about a person on Infobip's blocklist: columns, slots, and the way back.

"Update subscription" is infobip.com/docs/api/platform/subscriptions-api/update-subscription.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, field_validator, model_validator
from pydantic_core import PydanticCustomError

from consent.change import Action
from consent.identifiers.normalize import (
    LOCAL_PATTERN,
    UnusableIdentifier,
    is_domain,
    is_email,
    refuse_lookalikes,
    without_scheme,
)
from consent.identifiers.phones import is_known, looks_like_number, read_number
from consent.row import LONGEST_SLOT, ConsentRow, RowChanges, SlotChange, checked, or_whole_number, text_schema
from worker.providers.infobip.blocklist_slots import SUPPRESSION, Place, blocked_text, read_place
from worker.providers.row_fields import Members, Name, PathName, digest, error_at

BLOCKLIST = "blocklist"
"""The bucket of blocklist calls: Infobip limits them by themselves."""

CREATE_CHANNELS = ("SMS", "EMAIL", "VIBER", "RCS", "MMS", "WHATSAPP")
REMOVE_CHANNELS = (*CREATE_CHANNELS, "APPLE_MB")
"""Where an entry can be made, and where it can be removed (Infobip's OpenAPI description of /platform/1/blocklists)."""

_TABLE: dict[str, Any] = json.loads(Path(__file__).with_name("channel_events.json").read_text(encoding="utf-8"))

CHANNELS: tuple[str, ...] = tuple(_TABLE["channels"])
"""The channels of the page "Update subscription" (19) and of the newer OpenAPI description (22) together."""

_EVENTS: dict[str, frozenset[str]] = {channel: frozenset(events) for channel, events in _TABLE["channels"].items()}


def offers(channel: str, event: str) -> bool:
    """Say whether the published table has this event for the channel.

    Infobip ignores an event that it does not offer, without a word ("Update subscription"). The table moves, so
    an event outside it is sent all the same, and looked for afterwards.
    """
    return event in _EVENTS.get(channel, frozenset())


SETS = ("events", "criteria", "resources", "users")
FIELD = "field"
CRITERION_NAMES = {
    "application_id": "applicationId",
    "entity_id": "entityId",
    "calls_configuration_id": "callsConfigurationId",
}
"""Our columns of a criterion, and Infobip's names for them."""


class Slot(NamedTuple):
    """Which set and which member, or `field` and which field; for people see `blocklist_slots`."""

    kind: str
    member: str = ""


def slot_text(kind: str, member: str) -> str:
    """Write a slot like `events:DELIVERY`, `field:name` or `criteria:["production","entity1",""]`."""
    return f"{kind}:{member}"


def read_slot(text: str) -> Slot:
    """Read what `slot_text` wrote."""
    kind, _, member = text.partition(":")
    return Slot(kind, member)


def criterion_key(parts: Mapping[str, Any]) -> str:
    """Return the one text of a criterion, by Infobip's names; a part that is absent or empty matches anything."""
    named = [str(parts.get(name) or "") for name in CRITERION_NAMES.values()]
    return json.dumps(named, separators=(",", ":"), ensure_ascii=False)  # not escaped: a key is limited in bytes


def criterion(key: str) -> dict[str, str]:
    """Return the criterion that `criterion_key` wrote, as Infobip takes it."""
    return {name: part for name, part in zip(CRITERION_NAMES.values(), json.loads(key), strict=True) if part}


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


def read_destination(text: str, region: str) -> str:
    """Return a number as the digits of E.164, and a domain in lower case; the part before @ is kept to the letter.

    `mailto:` and `tel:` before it are left out. Raises UnusableIdentifier.
    """
    if "@" not in text and looks_like_number(text):
        return read_number(text, region)
    bare = without_scheme(text, "mailto:")
    refuse_lookalikes(bare)
    if not is_email(bare) and (bare is not text or not is_domain(bare)):
        raise UnusableIdentifier("unusable_value", _REMEDY)
    if bare is not text and "%" in bare:
        raise UnusableIdentifier("unusable_value", "write the address itself, without mailto: and what it encodes")
    local, at, domain = bare.rpartition("@")
    return f"{local}{at}{domain.lower()}"


def warning_about(destination: str) -> str | None:
    """Return why a destination may be a slip: a number that is not known to be in use, or a whole domain."""
    if destination.isdigit():
        return None if is_known(destination) else "unknown_number"
    return None if "@" in destination else "whole_domain"


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

    OPTIN adds what the row names to the subscription and OPTOUT removes it ("Update subscription"); `name` and
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
    contextual: ClassVar[frozenset[str]] = names_target
    address_columns: ClassVar[frozenset[str]] = names_target | {"channel", "subscription_id"}
    narrows: ClassVar[frozenset[str]] = frozenset({"channel", "sender"})
    suppression: ClassVar = SUPPRESSION

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
        found = checked(read_destination, text, cls.region)
        if not cls.allows_domains and warning_about(found) == "whole_domain":
            raise PydanticCustomError("whole_domain", _WHOLE_DOMAIN)
        return found

    @classmethod
    def warning(cls, address: Mapping[str, str]) -> str | None:
        """Return whether a destination may be a slip."""
        return warning_about(address["destination"]) if "destination" in address else None

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        if self.destination is not None and self.subscription_id is not None:
            raise error_at("destination", "ambiguous_row", _BOTH)
        if self.destination is not None:
            return self._may_be_blocked()
        if self.subscription_id is None:
            raise error_at("subscription_id", "missing_field", _NEITHER)
        return self._names_a_change()

    def _may_be_blocked(self) -> Self:
        allowed = CREATE_CHANNELS if self.action is Action.OPTOUT else REMOVE_CHANNELS
        if self.channel is not None and self.channel not in allowed:
            raise error_at("channel", "unknown_value", _NO_BLOCKING, known=", ".join(allowed))
        return self

    def _names_a_change(self) -> Self:
        if self.channel is None:
            raise error_at("channel", "missing_field", "a subscription needs its channel: fill channel")
        if self.channel not in CHANNELS:
            raise error_at("channel", "unknown_value", "write one of {known}", known=", ".join(CHANNELS))
        if not (changes := self._slots()):
            raise error_at("events", "missing_field", _NOTHING)
        if any(len(change.slot.encode()) > LONGEST_SLOT for change in changes):
            raise error_at("application_id", "too_long", _TOO_LONG)
        return self

    def changes(self) -> RowChanges:
        """Return the changes of a subscription, known by its channel and id; or that of a person's entry."""
        if self.destination is None:
            address = {"channel": self.channel or "", "subscription_id": self.subscription_id or ""}
            return RowChanges(address, self._slots())
        entry = SlotChange(blocked_text(Place(self.channel or "", self.sender or "")), {})
        return RowChanges({"destination": self.destination}, (entry,), BLOCKLIST)

    def _slots(self) -> tuple[SlotChange, ...]:
        """Return a change for each member and each field of a subscription that the row names."""
        sets = {"events": self.events, "resources": self.resources, "users": self.users}
        members = [SlotChange(slot_text(kind, one), {}) for kind, named in sets.items() for one in named or ()]
        fields = {"name": self.name, "profile_id": self.profile_id}
        set_to = [
            SlotChange(slot_text(FIELD, name), {name: text}, digest(text)) for name, text in fields.items() if text
        ]
        return (*members, *self._criterion(), *set_to)

    def _criterion(self) -> list[SlotChange]:
        parts = {theirs: getattr(self, ours) for ours, theirs in CRITERION_NAMES.items()}
        return [SlotChange(slot_text("criteria", criterion_key(parts)), {})] if any(parts.values()) else []


def export(address: Mapping[str, str], slot: str, details: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns of a row that names only this slot."""
    kind, member = read_slot(slot)
    if (to := address.get("destination", "")).isdigit():
        address = {**address, "destination": f"+{to}"}  # without + it would be read as a number of REGION
    if (place := read_place(slot)) is not None:
        return {**address, **{name: part for name, part in place._asdict().items() if part}}
    if kind == FIELD:
        return {**address, **{name: str(value) for name, value in details.items()}}
    if kind == "criteria":
        parts = zip(CRITERION_NAMES, json.loads(member), strict=True)
        return {**address, **{name: part for name, part in parts if part}}
    return {**address, kind: member}


_WHOLE_DOMAIN = (
    "this is a whole e-mail domain, so everyone at it: write the address, or allow domains with --allow-domains or the "
    "connection's ALLOW_DOMAINS"
)
_BOTH = "the row names a subscription and a person: fill subscription_id or destination, and use two rows for both"
_NEITHER = "the row names nothing: fill subscription_id and channel, or the destination of a person"
_NO_BLOCKING = "the blocklist has no such channel for this action: write one of {known}, or leave it empty for all"
_TOO_LONG = "application_id, entity_id and calls_configuration_id are too long together: shorten one of them"
_NOTHING = (
    "the row does not say what to add or remove: fill events, resources, users, application_id, entity_id or "
    "calls_configuration_id, or set name or profile_id"
)
