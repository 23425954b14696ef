"""Which events each channel knows: a table of Infobip's, kept as data with its origin and date."""

import json
from pathlib import Path
from typing import Any

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
