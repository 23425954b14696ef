"""What is there without any call: from the settings at the start, or put there by a test."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sandbox.clock import now
from sandbox.infobip.blocking import VIEWABLE, read_groups
from sandbox.infobip.blocklist import Blocklist
from sandbox.infobip.settings import InfobipSettings
from sandbox.infobip.subscribing import Subscribing
from sandbox.refused import Refused


class Seeds(BaseModel):
    """Profiles, subscriptions by channel and blocklist groups, each as it would be sent to POST."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profiles: tuple[dict[str, Any], ...] = ()
    subscriptions: dict[str, tuple[dict[str, Any], ...]] = Field({})
    blocklist: tuple[dict[str, Any], ...] = ()


def seeds_of(settings: InfobipSettings) -> Seeds:
    """Return what the settings say is there from the start."""
    return Seeds(profiles=settings.profiles, subscriptions=settings.subscriptions, blocklist=settings.blocklist)


def plant(seeds: Seeds, subscribing: Subscribing, blocklist: Blocklist) -> int:
    """Put these into the state, in place of what has the same id, and return how many they were."""
    try:
        for sent in seeds.profiles:
            subscribing.plant_profile(sent)
        for channel, several in seeds.subscriptions.items():
            for sent in several:
                subscribing.plant(channel, sent)
        wanted = read_groups(list(seeds.blocklist), VIEWABLE, sourced=True) if seeds.blocklist else []
    except Refused as refused:
        raise ValueError(f"a seed is not valid: {refused.code} {refused.detail} {dict(refused.violations)}") from None
    blocklist.add(wanted, now(), lag=0)
    return len(seeds.profiles) + sum(map(len, seeds.subscriptions.values())) + len(wanted)
