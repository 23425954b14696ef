"""A subscription as Gupshup shows it, what it holds of a change, and which modes it shall have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from consent.change import Action
from consent.ledger.queue.tasks import ClaimedChange
from consent.outcome import Outcome, Rejected, Unchanged
from worker.providers.gupshup.modes import NONE, fits
from worker.providers.gupshup.slots import ACTIVE, MODES, read_slot

NOT_FOR_VERSION = Rejected("mode_not_for_version", "this mode does not go with the version of the subscription")


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a reply shows; None for what it does not show."""

    active: bool | None
    modes: tuple[str, ...] | None
    tag: str | None
    url: str | None
    version: str | None

    def shows(self, change: ClaimedChange) -> bool | None:
        """Say whether it is as a change wants it; None if that does not show."""
        kind, member = read_slot(change.slot)
        wanted = change.action is Action.OPTIN
        if kind == ACTIVE:
            return None if self.active is None else self.active is wanted
        if kind == MODES:
            return None if self.modes is None else (member in self.modes) is wanted
        if member == "do_check":
            return None
        shown: str | None = getattr(self, member)
        return None if shown is None else shown == str(change.details[member])


@dataclass(slots=True)
class Merged:
    """All modes that a subscription shall have, the changes to write, and what became of the others."""

    modes: list[str]
    carried: list[ClaimedChange] = field(default_factory=list)
    outcomes: dict[int, Outcome] = field(default_factory=dict)


def subscription_of(body: dict[str, Any] | None) -> Subscription | None:
    """Return the subscription that a reply shows, or None if it shows none.

        {"status": "success", "subscription": {"active": true, "appId": "…", "id": "32595", "mode": 1025,
         "modes": ["SENT", "ENQUEUED"], "tag": "V33i4", "url": "https://…", "version": 2, …}}

    (Seed page.) The number `mode` says the same as `modes`; how it is computed is not documented, so it is not read.
    """
    match body:
        case {"subscription": {**shown}} if shown:
            return Subscription(
                active=_if(bool, shown.get("active")),
                modes=_modes(shown.get("modes")),
                tag=_if(str, shown.get("tag")),
                url=_if(str, shown.get("url")),
                version=_version(shown.get("version")),
            )
        case _:
            return None


def merge(there: Subscription, changes: Sequence[ClaimedChange]) -> Merged:
    """Return what has to be written: only what is not so already."""
    merged = Merged([mode for mode in there.modes or () if mode != NONE])
    version = next((str(one.details["version"]) for one in changes if one.slot == _VERSION), there.version)
    for change in changes:
        kind, member = read_slot(change.slot)
        if there.shows(change):
            merged.outcomes[change.id] = Unchanged()
        elif kind != MODES:
            merged.carried.append(change)
        elif change.action is Action.OPTOUT:
            merged.modes.remove(member)
            merged.carried.append(change)
        elif version is not None and not fits(member, int(version)):
            merged.outcomes[change.id] = NOT_FOR_VERSION
        else:
            merged.modes.append(member)
            merged.carried.append(change)
    return merged


_VERSION = "field:version"


def _if(kind: type, value: Any) -> Any:
    return value if type(value) is kind else None


def _modes(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(dict.fromkeys(mode.strip().upper() for mode in value if isinstance(mode, str)))


def _version(value: Any) -> str | None:
    text = str(value) if type(value) is int or isinstance(value, str) else ""
    return text if len(text) == 1 and text.isascii() and text.isdigit() else None
