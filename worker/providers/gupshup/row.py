"""A row about a subscription of a Gupshup app: its columns, the slots that it changes, and the way back to columns.

"The page" is "Update App Subscription":
partner-docs.gupshup.io/reference/put_partner-app-appid-subscription-subscriptionid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from consent.change import Action
from consent.row import ConsentRow, RowChanges, SlotChange, text_schema
from worker.providers.row_fields import Flag, Members, Name, PathName, Spellings, Text, digest, error_at

MODES = "modes"
FIELD = "field"
ACTIVE = "active"

FORM_NAMES = {"tag": "tag", "url": "url", "version": "version", "do_check": "doCheck"}
"""Our columns of fields, and Gupshup's names for them."""


class Slot(NamedTuple):
    """`modes` and which mode, `field` and which field, or `active`."""

    kind: str
    member: str = ""


def slot_text(kind: str, member: str) -> str:
    """Write a slot like `modes:SENT` or `field:url`."""
    return f"{kind}:{member}"


def read_slot(text: str) -> Slot:
    """Read what `slot_text` wrote, or `active`."""
    kind, _, member = text.partition(":")
    return Slot(kind, member)


EVERY_MODE = (
    *("SENT", "DELIVERED", "READ", "DELETED", "OTHERS", "FAILED", "MESSAGE", "TEMPLATE", "ACCOUNT", "BILLING"),
    *("ENQUEUED", "FLOWS_MESSAGE", "PAYMENTS", "ALL", "COPY", "COEXISTENCE"),
)
"""Every mode that a page names, in the order in which replies list them (partner-docs.gupshup.io/reference)."""

NONE = "NONE"
"""What is written where a subscription holds no mode (the page)."""

ONLY_VERSION_3 = ("OTHERS", "FLOWS_MESSAGE", "PAYMENTS", "ALL")
"""Marked "Only for v3" (partner-docs.gupshup.io/reference/setsubscription-api-v3)."""

NOT_VERSION_3 = ("TEMPLATE", "ACCOUNT", "COPY")
"""The page: "for version 3 TEMPLATE, ACCOUNT, COPY are not supported"; a newer page lists two of them."""

VERSIONS = (0, 1, 2, 3)
"""The page; a newer copy of it lists 2 and 3 only."""

_PASS_THROUGH = 3


def fits(mode: str, version: int) -> bool:
    """Say whether a mode may be added to a subscription of this version."""
    return mode not in (NOT_VERSION_3 if version == _PASS_THROUGH else ONLY_VERSION_3)


def joined(modes: Iterable[str]) -> str:
    """Return modes as a form holds them."""
    return ",".join(modes) or NONE


_SPELLINGS = Spellings(EVERY_MODE)
_LONGEST_URL = 2048


def _known_modes(named: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_SPELLINGS[mode] for mode in named))


def _web_address(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not text.isprintable() or " " in text:
        raise PydanticCustomError("unusable_value", "write a web address like https://hooks.example.com/gupshup")
    return text


def _without(modes: tuple[str, ...], version: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema that keeps these modes away from an opt-in of such a version."""
    named = {"action": {"const": "OPTIN"}, "version": version}
    allowed = [mode for mode in EVERY_MODE if mode not in modes]
    then = {"properties": {"modes": {"items": {"enum": allowed}}}}
    return {"if": {"required": ["version", "modes"], "properties": named}, "then": then}


_MODES_SCHEMA = {"type": "array", "items": _SPELLINGS.schema(), "minItems": 1}
_URL_SCHEMA = text_schema(_LONGEST_URL, r"^https?://[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[1-9][0-9]{0,3})?(/[\w.~/-]*)?$")


class GupshupRow(ConsentRow):
    """What a row says of a subscription (the page).

    OPTIN adds `modes` and OPTOUT removes them; the other columns set those fields. A row that names neither sets
    `active`: an OPTOUT then pauses the webhook for everyone. `do_check` says whether Gupshup checks the URL when it
    takes the row's change; it is no state of the subscription, so it stands by itself only where nothing else does.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                _without(NOT_VERSION_3, {"const": VERSIONS[-1]}),
                _without(ONLY_VERSION_3, {"enum": list(VERSIONS[:-1])}),
            ]
        }
    )

    app_id: PathName
    subscription_id: PathName
    modes: Annotated[Members, AfterValidator(_known_modes), WithJsonSchema(_MODES_SCHEMA)] | None = None
    tag: Name | None = None
    url: (
        Annotated[Text, Field(max_length=_LONGEST_URL), AfterValidator(_web_address), WithJsonSchema(_URL_SCHEMA)]
        | None
    ) = None
    version: int | None = Field(None, ge=VERSIONS[0], le=VERSIONS[-1])
    do_check: Flag | None = None

    address_columns: ClassVar[frozenset[str]] = frozenset({"app_id", "subscription_id"})

    remedies: ClassVar[dict[str, str]] = {
        "app_id": "give the id of the app",
        "subscription_id": "give the id of the app's subscription",
        "version": f"write one of {', '.join(map(str, VERSIONS))}",
    }

    @model_validator(mode="after")
    def _modes_fit_the_version(self) -> Self:
        wrong = [one for one in self.modes or () if self.version is not None and not fits(one, self.version)]
        if wrong and self.action is Action.OPTIN:
            message = "version {version} has no such mode: {wrong}"
            raise error_at("modes", "unusable_value", message, version=self.version, wrong=", ".join(wrong))
        return self

    def changes(self) -> RowChanges:
        """Return the changes of a subscription; each app is a bucket, for it has a limit of its own."""
        return RowChanges({"app_id": self.app_id, "subscription_id": self.subscription_id}, self._slots(), self.app_id)

    def _slots(self) -> tuple[SlotChange, ...]:
        """Return a change for each mode and each field that the row names, or for `active`."""
        check = {} if self.do_check is None else {"do_check": self.do_check}
        fields: dict[str, Any] = {"tag": self.tag, "url": self.url, "version": self.version}
        named = [SlotChange(slot_text(MODES, mode), check) for mode in self.modes or ()]
        named += [
            SlotChange(slot_text(FIELD, name), {name: value, **check}, digest(str(value)))
            for name, value in fields.items()
            if value is not None
        ]
        if named:
            return tuple(named)
        if check:
            return (SlotChange(slot_text(FIELD, "do_check"), check, FORM_NAMES["do_check"] + str(self.do_check)),)
        return (SlotChange(ACTIVE, {}),)


def export(address: Mapping[str, str], slot: str, details: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns of a row that names only this slot."""
    kind, member = read_slot(slot)
    modes = {MODES: member} if kind == MODES else {}
    return {**address, **modes, **{name: str(value) for name, value in details.items()}}
