"""Callers that know how to speak to the Infobip and the Gupshup sandbox."""

from collections.abc import Callable
from typing import Any

import httpx


class _ProviderCaller:
    """A client of one provider and of its control paths."""

    def __init__(self, url: str, name: str, authorization: str) -> None:
        self.control = f"/_sandbox/{name}"
        self.http = httpx.Client(
            base_url=url, headers={"Authorization": authorization}, trust_env=False, verify=False, timeout=5
        )

    def fault(self, kind: str, **more: Any) -> None:
        """Order a fault."""
        self.http.post(f"{self.control}/faults", json={"kind": kind} | more).raise_for_status()

    def rows(self, key: str) -> list[dict[str, Any]]:
        """Return what the sandbox holds of a target."""
        return self.http.get(f"{self.control}/state", params={"user": key}).json()["targets"][key]

    def keys(self) -> list[str]:
        """Return every target there is."""
        return list(self.http.get(f"{self.control}/state").json()["targets"])

    def stats(self, **asked: Any) -> dict[str, Any]:
        """Return the counts."""
        return self.http.get(f"{self.control}/stats", params=asked).json()

    def calls(self) -> list[dict[str, Any]]:
        """Return the call log."""
        return self.http.get(f"{self.control}/calls").json()["calls"]

    def seed(self, seeds: Any) -> httpx.Response:
        """Put something into the state without a call."""
        return self.http.post(f"{self.control}/seed", json=seeds)


class InfobipCaller(_ProviderCaller):
    """A caller with the demo key."""

    def __init__(self, url: str) -> None:
        super().__init__(url, "infobip", "App demo-infobip-key")

    def create(self, subscription_id: str = "MINE", channel: str = "SMS", **more: Any) -> httpx.Response:
        """Create a subscription."""
        return self.http.post(
            f"/subscriptions/1/subscription/{channel}", json=_sms(more, subscriptionId=subscription_id)
        )

    def put(self, subscription_id: str = "DEMO-SMS", channel: str = "SMS", **more: Any) -> httpx.Response:
        """Update a subscription."""
        return self.http.put(f"/subscriptions/1/subscription/{channel}/{subscription_id}", json=_sms(more))

    def get(self, subscription_id: str = "DEMO-SMS", channel: str = "SMS") -> httpx.Response:
        """Read a subscription back."""
        return self.http.get(f"/subscriptions/1/subscription/{channel}/{subscription_id}")

    def block(self, *destinations: str, **group: Any) -> httpx.Response:
        """Block these destinations."""
        return self.http.post("/platform/1/blocklists", json=_groups(destinations, group))

    def unblock(self, *destinations: str, **group: Any) -> httpx.Response:
        """Take these destinations off the blocklist."""
        return self.http.request("DELETE", "/platform/1/blocklists", json=_groups(destinations, group))

    def blocked(self, **asked: Any) -> list[str]:
        """Return the destinations that can be seen on the blocklist."""
        found = self.http.get("/platform/1/blocklists", params=asked).json()["results"]
        return [one["destination"] for one in found]


class GupshupCaller(_ProviderCaller):
    """A caller with the token of the first demo app."""

    def __init__(self, url: str) -> None:
        super().__init__(url, "gupshup", "demo-gupshup-token-1")

    def put(self, subscription_id: str = "21001", **form: str) -> httpx.Response:
        """Update a subscription."""
        return self.http.put(f"/partner/app/demo-app-1/subscription/{subscription_id}", data=form)

    def post(self, **form: str) -> httpx.Response:
        """Create a subscription."""
        whole = {"tag": "new", "url": "https://example.com/new", "version": "2", "modes": "SENT"} | form
        return self.http.post("/partner/app/demo-app-1/subscription", data=whole)

    def get(self, subscription_id: str = "21001") -> httpx.Response:
        """Read a subscription back."""
        return self.http.get(f"/partner/app/demo-app-1/subscription/{subscription_id}")


def _sms(more: dict[str, Any], **fixed: Any) -> dict[str, Any]:
    return fixed | {"profile": {"profileId": "DEMO-PROFILE"}, "events": ["DELIVERY"]} | more


def _groups(destinations: tuple[str, ...], group: dict[str, Any]) -> dict[str, Any]:
    return {"blocklist": [{"destinations": [{"to": to} for to in destinations]} | group]}


def exception(reply: httpx.Response) -> dict[str, Any]:
    """Return what is in Infobip's classic error body."""
    return reply.json()["requestError"]["serviceException"]


def refused(reply: httpx.Response) -> tuple[int, str]:
    """Return the status and the sentence of Gupshup's error."""
    assert reply.json()["status"] == "error"
    return reply.status_code, reply.json()["message"]


StartingInfobip = Callable[..., InfobipCaller]
StartingGupshup = Callable[..., GupshupCaller]
