"""The subscriptions Gupshup holds, app by app."""

from dataclasses import dataclass, replace
from typing import Any

from sandbox.gupshup.requests import SubscriptionUpdate, bitmask, in_order

_FIRST_ID = 30_001


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as it stands since its latest write: its place among all writes, and when; times in seconds."""

    subscription_id: str
    app_id: str
    fields: dict[str, Any]
    created: float
    seq: int
    at: float

    @property
    def key(self) -> str:
        """App and id."""
        return f"{self.app_id}/{self.subscription_id}"

    def shown(self) -> dict[str, Any]:
        """Return the whole object, as every reply has it."""
        modes = self.fields["modes"]
        shown = {
            "active": self.fields["active"],
            "appId": self.app_id,
            "createdOn": int(self.created * 1000),
            "id": self.subscription_id,
            "latencyBucket": "lt_1_s",  # INVENTED: that it never changes
            "mode": bitmask(modes),
            "modes": list(in_order(modes)),
            "modifiedOn": int(self.at * 1000),
            "showOnUI": self.fields["showOnUI"],
            "tag": self.fields["tag"],
            "url": self.fields["url"],
            "version": self.fields["version"],
        }
        return shown | ({"meta": self.fields["meta"]} if "meta" in self.fields else {})


class Register:
    """All subscriptions by id, in memory until reset. INVENTED: ids count up from 30001, over all apps."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._held: dict[str, Subscription] = {}
        self._next_id = _FIRST_ID
        self._seq = 0

    def held(self, subscription_id: str) -> Subscription | None:
        """Return one subscription, of any app."""
        return self._held.get(subscription_id)

    def of(self, app_id: str) -> list[Subscription]:
        """Return the subscriptions of an app, in the order of their creation."""
        return [one for one in self._held.values() if one.app_id == app_id]

    def create(
        self, app_id: str, update: SubscriptionUpdate, at: float, subscription_id: str | None = None
    ) -> Subscription:
        """Create a subscription, under this id if one is given."""
        fields = {"active": True, "showOnUI": False} | update.fields
        return self._put(Subscription(subscription_id or self._new_id(), app_id, fields, at, 0, at))

    def update(self, before: Subscription, update: SubscriptionUpdate, at: float) -> Subscription:
        """Change the fields that were sent; the others stay as they were."""
        return self._put(replace(before, fields=before.fields | update.fields, at=at))

    def remove(self, subscription: Subscription) -> None:
        """Remove a subscription."""
        del self._held[subscription.subscription_id]

    def keys(self) -> list[str]:
        """Return every subscription as app and id."""
        return [one.key for one in self._held.values()]

    def rows(self, key: str) -> list[dict[str, Any]]:
        """Return one subscription for inspection."""
        one = self.held(key.rpartition("/")[2])
        return [one.shown() | {"seq": one.seq, "at": one.at}] if one and one.key == key else []

    def counts(self) -> dict[str, int]:
        """Return how many there are, and how many writes there were."""
        return {"subscriptions": len(self._held), "subscription_writes": self._seq}

    def _put(self, subscription: Subscription) -> Subscription:
        self._seq += 1
        written = replace(subscription, seq=self._seq)
        self._held[written.subscription_id] = written
        return written

    def _new_id(self) -> str:
        while str(self._next_id) in self._held:
            self._next_id += 1
        return str(self._next_id)
