"""The subscriptions and profiles Infobip holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sandbox.infobip.requests import Profile, Query, SubscriptionUpdate, first

_CRITERIA = ("applicationId", "entityId", "callsConfigurationId")


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as it stands since its latest write: its place among all writes, and when."""

    subscription_id: str
    profile_id: str
    body: dict[str, Any]
    seq: int
    at: float


class Subscriptions:
    """All subscriptions by channel and id, and the profiles they name, in memory until reset."""

    def __init__(self) -> None:
        self.profiles: dict[str, Profile] = {}
        self._held: dict[tuple[str, str], Subscription] = {}
        self._seq = 0

    def clear(self) -> None:
        """Forget everything."""
        self.profiles.clear()
        self._held.clear()
        self._seq = 0

    def held(self, channel: str, subscription_id: str) -> Subscription | None:
        """Return one subscription, if it exists."""
        return self._held.get((channel, subscription_id))

    def write(
        self, channel: str, subscription_id: str, update: SubscriptionUpdate, at: float, *, keep: bool
    ) -> Subscription:
        """Create or update a subscription; with `keep` the optional fields that were not sent stay as they were."""
        self._seq += 1
        before = self.held(channel, subscription_id)
        kept = before.body if before and keep else {}
        if update.brings_profile:
            self.profiles[update.profile.profile_id] = update.profile
        body = kept | update.optional | {"events": update.events}
        written = Subscription(subscription_id, update.profile.profile_id, body, self._seq, at)
        self._held[channel, subscription_id] = written
        return written

    def remove(self, channel: str, subscription_id: str) -> None:
        """Remove a subscription."""
        del self._held[channel, subscription_id]

    def ids(self, subscription: Subscription) -> dict[str, Any]:
        """Return what a write answers with: the ids and nothing else."""
        profile = self.profiles[subscription.profile_id]
        return {"subscriptionId": subscription.subscription_id, "profile": profile.ids}

    def shown(self, subscription: Subscription) -> dict[str, Any]:
        """Return a subscription as it is read back."""
        return self.ids(subscription) | subscription.body

    def found(self, channel: str, query: Query) -> list[Subscription]:
        """Return the subscriptions of a channel that fit every filter, newest first."""
        return [one for one in reversed(list(self._of(channel))) if _fits(one.body, query)]

    def keys(self) -> list[str]:
        """Return every subscription as channel and id, in the order of their creation."""
        return [f"{channel}/{subscription_id}" for channel, subscription_id in self._held]

    def row(self, key: str) -> dict[str, Any] | None:
        """Return one subscription for inspection."""
        channel, _, subscription_id = key.partition("/")
        held = self.held(channel, subscription_id)
        return None if held is None else self.shown(held) | {"channel": channel, "seq": held.seq, "at": held.at}

    def counts(self) -> dict[str, int]:
        """Return how many there are, and how many writes there were."""
        return {"subscriptions": len(self._held), "profiles": len(self.profiles), "subscription_writes": self._seq}

    def _of(self, channel: str) -> Iterator[Subscription]:
        return (one for (of, _), one in self._held.items() if of == channel)


def _fits(body: dict[str, Any], query: Query) -> bool:
    # INVENTED: that one criterion has to fit all that is asked about criteria.
    asked = {name: update for name in _CRITERIA if (update := first(query, name)) is not None}
    in_criteria = not asked or any(asked.items() <= one.items() for one in body.get("criteria", []))
    resources = set(query.get("resource", [])) <= set(body.get("resources", []))
    return in_criteria and resources and set(query.get("user", [])) <= set(body.get("users", []))
