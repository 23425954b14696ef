"""Which events each channel offers, as published; the file beside this module says where and when it was taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_TABLE: dict[str, Any] = json.loads(Path(__file__).with_name("channel_events.json").read_text(encoding="utf-8"))

CHANNELS: tuple[str, ...] = tuple(_TABLE["channels"])
"""The channels of the page that was asked for (19) and of the newer description (22) together."""

_EVENTS: dict[str, frozenset[str]] = {channel: frozenset(events) for channel, events in _TABLE["channels"].items()}


def offers(channel: str, event: str) -> bool:
    """Say whether the published table has this event for the channel.

    Infobip ignores an event that it does not offer, without a word (page "Update subscription"). The table moves, so
    an event outside it is sent all the same, and looked for afterwards.
    """
    return event in _EVENTS.get(channel, frozenset())
