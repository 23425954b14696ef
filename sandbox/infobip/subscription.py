"""The body that creates or updates a subscription: read, checked field by field."""

import re
from dataclasses import dataclass
from typing import Any

from sandbox.infobip.channels import EVENTS, EVERY_EVENT, WITH_FORMAT
from sandbox.infobip.checking import Checking
from sandbox.infobip.profile import Profile, read_profile

Event = str | dict[str, str]
_URL_SAFE = re.compile(r"[A-Za-z0-9._~-]*")
_OPTIONAL = ("name", "criteria", "resources", "users")
_CRITERIA = ("applicationId", "entityId", "callsConfigurationId")


@dataclass(frozen=True, slots=True)
class SubscriptionUpdate:
    """What a write asks for: the optional fields that were sent, the events that count, a profile named or given."""

    profile: Profile
    events: list[Event]
    optional: dict[str, Any]

    @property
    def brings_profile(self) -> bool:
        """Whether the profile comes with it in full, and so need not exist."""
        return "webhook" in self.profile.sent


def read_id(sent: dict[str, Any], checking: Checking) -> str:
    """Read the id the caller chose for a new subscription. INVENTED: the sentence for one that is not URL-safe."""
    given = checking.text(sent.get("subscriptionId"), "subscriptionId")
    if not _URL_SAFE.fullmatch(given):
        checking.note("subscriptionId", "must be URL-safe")
    return given


def read_update(sent: dict[str, Any], channel: str, checking: Checking, *, refuse_unknown: bool) -> SubscriptionUpdate:
    """Read the fields that creating and updating have in common; the violations are in `checking`."""
    profile = checking.fields(sent.get("profile"), "profile")
    optional = {
        "name": checking.optional_text(sent.get("name"), "name"),
        "criteria": _criteria(sent.get("criteria"), checking),
        "resources": checking.optional_texts(sent.get("resources"), "resources"),
        "users": checking.optional_texts(sent.get("users"), "users"),
    }
    return SubscriptionUpdate(
        profile=read_profile(profile, checking, "profile."),
        events=_events(sent.get("events"), channel, checking, refuse_unknown=refuse_unknown),
        optional={name: optional[name] for name in _OPTIONAL if optional[name] is not None},
    )


def event_name(event: Event) -> str:
    """Return the name of an event, whichever way it is written."""
    return event if isinstance(event, str) else event["event"]


def _events(given: Any, channel: str, checking: Checking, *, refuse_unknown: bool) -> list[Event]:
    # Documented: "subscription to events that are unavailable for a certain channel will be ignored".
    # INVENTED: that an event named twice counts once.
    named: dict[str, Event] = {}
    for at, one in enumerate(checking.items(given, "events")):
        name = _event(one, f"events[{at}]", channel, checking)
        if refuse_unknown and name not in EVERY_EVENT:
            checking.note(f"events[{at}]", "unsupported event")
        elif name in EVENTS[channel]:
            named.setdefault(name, one)
    return list(named.values())


def _event(one: Any, path: str, channel: str, checking: Checking) -> str:
    if not isinstance(one, dict) or channel not in WITH_FORMAT:
        return checking.text(one, path, shortest=0)
    checking.text(one.get("format"), f"{path}.format")
    return checking.text(one.get("event"), f"{path}.event")


def _criteria(given: Any, checking: Checking) -> list[dict[str, str]] | None:
    if given is None:
        return None
    read = []
    for at, one in enumerate(checking.items(given, "criteria")):
        fields = checking.fields(one, f"criteria[{at}]")
        texts = {
            name: checking.optional_text(fields.get(name), f"criteria[{at}].{name}", shortest=0) for name in _CRITERIA
        }
        read.append({name: text for name, text in texts.items() if text is not None})
    return read
