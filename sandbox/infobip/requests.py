"""What a call to Infobip sends: subscriptions, profiles and pages asked for, checked part by part.

Which events each channel knows is a table of Infobip's, kept as data with its origin and date.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sandbox.calls import Refused

_FILE: dict[str, Any] = json.loads(Path(__file__).with_name("channel_events.json").read_text(encoding="utf-8"))

_CURRENT = {channel: frozenset(events) for channel, events in _FILE["channels"].items()}
_OLDER = {channel: frozenset(events) for channel, events in _FILE["older_channels"].items()}
EVENTS: dict[str, frozenset[str]] = _CURRENT | _OLDER
EVERY_EVENT = frozenset[str]().union(*EVENTS.values())

# The update-subscription page names 19 channels, the OpenAPI document 22.
_NEWER = frozenset({"KAKAO_BRAND_MESSAGE", "APPLE_MESSAGES_FOR_BUSINESS", "AGENT_OS", "WEB_PUSH"})
CHANNELS: dict[str, frozenset[str]] = {
    "page": frozenset(EVENTS) - _NEWER,
    "openapi": frozenset(_CURRENT),
    "both": frozenset(EVENTS),
}
# The OpenAPI document lets an event of these be an object with the format of its report as well.
WITH_FORMAT = frozenset(
    {"APPLE_MESSAGES_FOR_BUSINESS", "BLOCKLIST", "FACEBOOK", "MMS", "MOBILE_IDENTITY", "OPEN_CHANNEL", "SMS"}
)


LONGEST = 255
MOST = 255


class Checker:
    """The violations found in one body; the sentences about sizes are documented, those about kinds INVENTED."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def note(self, path: str, sentence: str) -> None:
        """Note a violation."""
        self._found.setdefault(path, []).append(sentence)

    def conclude(self) -> None:
        """Refuse the call with 400 and every violation, if there is any."""
        if self._found:
            raise Refused(400, violations=self._found)

    def text(self, value: Any, path: str, shortest: int = 1, longest: int = LONGEST) -> str:
        """Return a text that has to be there, of the right length."""
        if value is None:
            self.note(path, "must not be null")
        elif not isinstance(value, str):
            self.note(path, "must be a string")
        elif not shortest <= len(value) <= longest:
            self.note(path, f"size must be between {shortest} and {longest}")
        return value if isinstance(value, str) else ""

    def optional_text(self, value: Any, path: str, shortest: int = 1, longest: int = LONGEST) -> str | None:
        """Return a text that may be left out."""
        return None if value is None else self.text(value, path, shortest, longest)

    def items(self, value: Any, path: str, most: int = MOST) -> list[Any]:
        """Return a list that has to be there and is not too long."""
        if value is None:
            self.note(path, "must not be null")
        elif not isinstance(value, list):
            self.note(path, "must be an array")
        elif len(value) > most:
            self.note(path, f"size must be between 0 and {most}")
        return value if isinstance(value, list) else []

    def optional_texts(self, value: Any, path: str) -> list[str] | None:
        """Return a list of texts that may be left out; each may be empty."""
        if value is None:
            return None
        return [self.text(one, f"{path}[{at}]", shortest=0) for at, one in enumerate(self.items(value, path))]

    def fields(self, value: Any, path: str) -> dict[str, Any]:
        """Return an object that has to be there."""
        if value is None:
            self.note(path, "must not be null")
        elif not isinstance(value, dict):
            self.note(path, "must be an object")
        return value if isinstance(value, dict) else {}


def json_object(body: bytes) -> dict[str, Any]:
    """Return the body, or refuse it with 400. INVENTED: the sentence."""
    try:
        whole = json.loads(body)
    except ValueError:
        whole = None
    if not isinstance(whole, dict):
        raise Refused(400, violations={"body": ["must be a JSON object"]})
    return whole


Query = dict[str, list[str]]
T = TypeVar("T")


def first(query: Query, name: str) -> str | None:
    """Return the value of a query parameter, if it is there."""
    return query.get(name, [None])[0] if name in query else None


def paged(found: Sequence[T], query: Query, sizes: tuple[int, int], show: Callable[[T], Any]) -> dict[str, Any]:
    """Return one page of what was found; `sizes` are the usual and the greatest number of items on it."""
    usual, greatest = sizes
    page, size = _number(query, "page", 0, None), _number(query, "size", usual, greatest)
    start = page * size
    total = len(found)
    return {
        "results": [show(one) for one in found[start : start + size]],
        "paging": {"page": page, "size": size, "totalPages": -(-total // size), "totalResults": total},
    }


def _number(query: Query, name: str, usual: int, greatest: int | None) -> int:
    # INVENTED: that a number out of range is refused, and how.
    given = first(query, name)
    if given is None:
        return usual
    least = 0 if greatest is None else 1
    if not given.isdecimal() or not least <= int(given) <= (greatest or int(given)):
        raise Refused(400, violations={name: ["is out of range"]})
    return int(given)


_LONGEST_URL = 512


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile as it was sent, its credentials left out."""

    profile_id: str
    sent: dict[str, Any]

    @property
    def ids(self) -> dict[str, Any]:
        """The profile as a subscription shows it."""
        security = self.sent.get("security")
        return {"profileId": self.profile_id} | ({"security": {"authId": security["authId"]}} if security else {})


def read_profile(sent: dict[str, Any], checker: Checker, path: str = "") -> Profile:
    """Read a profile; only its id, webhook and security are checked, the rest is kept as it is (INVENTED)."""
    profile_id = checker.text(sent.get("profileId"), f"{path}profileId")
    if sent.get("webhook") is not None:
        webhook = checker.fields(sent["webhook"], f"{path}webhook")
        checker.text(webhook.get("notifyUrl"), f"{path}webhook.notifyUrl", shortest=0, longest=_LONGEST_URL)
    security: dict[str, Any] = {}
    if sent.get("security") is not None:
        security = dict(checker.fields(sent["security"], f"{path}security"))
        checker.text(security.get("authId"), f"{path}security.authId", longest=LONGEST)
        security.pop("credentials", None)
    kept = {name: value for name, value in sent.items() if name != "security" and value is not None}
    return Profile(profile_id, kept | ({"security": security} if security else {}))


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


def read_id(sent: dict[str, Any], checker: Checker) -> str:
    """Read the id the caller chose for a new subscription. INVENTED: the sentence for one that is not URL-safe."""
    given = checker.text(sent.get("subscriptionId"), "subscriptionId")
    if not _URL_SAFE.fullmatch(given):
        checker.note("subscriptionId", "must be URL-safe")
    return given


def read_update(sent: dict[str, Any], channel: str, checker: Checker, *, refuse_unknown: bool) -> SubscriptionUpdate:
    """Read the fields that creating and updating have in common; the violations are in `checker`."""
    profile = checker.fields(sent.get("profile"), "profile")
    optional = {
        "name": checker.optional_text(sent.get("name"), "name"),
        "criteria": _criteria(sent.get("criteria"), checker),
        "resources": checker.optional_texts(sent.get("resources"), "resources"),
        "users": checker.optional_texts(sent.get("users"), "users"),
    }
    return SubscriptionUpdate(
        profile=read_profile(profile, checker, "profile."),
        events=_events(sent.get("events"), channel, checker, refuse_unknown=refuse_unknown),
        optional={name: optional[name] for name in _OPTIONAL if optional[name] is not None},
    )


def event_name(event: Event) -> str:
    """Return the name of an event, whichever way it is written."""
    return event if isinstance(event, str) else event["event"]


def _events(given: Any, channel: str, checker: Checker, *, refuse_unknown: bool) -> list[Event]:
    # Documented: "subscription to events that are unavailable for a certain channel will be ignored".
    # INVENTED: that an event named twice counts once.
    named: dict[str, Event] = {}
    for at, one in enumerate(checker.items(given, "events")):
        name = _event(one, f"events[{at}]", channel, checker)
        if refuse_unknown and name not in EVERY_EVENT:
            checker.note(f"events[{at}]", "unsupported event")
        elif name in EVENTS[channel]:
            named.setdefault(name, one)
    return list(named.values())


def _event(one: Any, path: str, channel: str, checker: Checker) -> str:
    if not isinstance(one, dict) or channel not in WITH_FORMAT:
        return checker.text(one, path, shortest=0)
    checker.text(one.get("format"), f"{path}.format")
    return checker.text(one.get("event"), f"{path}.event")


def _criteria(given: Any, checker: Checker) -> list[dict[str, str]] | None:
    if given is None:
        return None
    read = []
    for at, one in enumerate(checker.items(given, "criteria")):
        fields = checker.fields(one, f"criteria[{at}]")
        texts = {
            name: checker.optional_text(fields.get(name), f"criteria[{at}].{name}", shortest=0) for name in _CRITERIA
        }
        read.append({name: text for name, text in texts.items() if text is not None})
    return read
