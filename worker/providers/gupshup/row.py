"""The door for a row about a subscription of a Gupshup app."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from consent.change import Action
from consent.row import ConsentRow, Wish
from worker.providers.cells import Flag, Members, Name, PathName, Text, digest, fault_at
from worker.providers.gupshup.modes import MODES as EVERY_MODE
from worker.providers.gupshup.modes import VERSIONS, fits
from worker.providers.gupshup.slots import ACTIVE, FIELD, FORM_NAMES, MODES, slot_text
from worker.providers.spellings import Spellings

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


class GupshupRow(ConsentRow):
    """What a row says of a subscription (seed page "Update App Subscription").

    OPTIN adds `modes` and OPTOUT removes them; the other columns set those fields. A row that names neither sets
    `active`: an OPTOUT then pauses the webhook for everyone. `do_check` says whether Gupshup checks the URL when it
    takes the row's change; it is no state of the subscription, so it stands by itself only where nothing else does.
    """

    app_id: PathName
    subscription_id: PathName
    modes: Annotated[Members, AfterValidator(_known_modes)] | None = None
    tag: Name | None = None
    url: Annotated[Text, Field(max_length=_LONGEST_URL), AfterValidator(_web_address)] | None = None
    version: int | None = Field(None, ge=VERSIONS[0], le=VERSIONS[-1])
    do_check: Flag | None = None

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
            raise fault_at("modes", "unusable_value", message, version=self.version, wrong=", ".join(wrong))
        return self

    def address(self) -> dict[str, str]:
        """Return app and subscription."""
        return {"app_id": self.app_id, "subscription_id": self.subscription_id}

    def bucket(self) -> str:
        """Return the app: each has a limit of its own."""
        return self.app_id

    def wishes(self) -> tuple[Wish, ...]:
        """Return a wish for each mode and each field that the row names, or for `active`."""
        check = {} if self.do_check is None else {"do_check": self.do_check}
        fields: dict[str, Any] = {"tag": self.tag, "url": self.url, "version": self.version}
        named = [Wish(slot_text(MODES, mode), check) for mode in self.modes or ()]
        named += [
            Wish(slot_text(FIELD, name), {name: value, **check}, digest(str(value)))
            for name, value in fields.items()
            if value is not None
        ]
        if named:
            return tuple(named)
        if check:
            return (Wish(slot_text(FIELD, "do_check"), check, FORM_NAMES["do_check"] + str(self.do_check)),)
        return (Wish(ACTIVE, {}),)
