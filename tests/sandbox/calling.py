"""A caller that knows how to speak to the Capillary sandbox."""

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import httpx

CUT = (httpx.RemoteProtocolError, httpx.ReadError)
"""What a caller sees of a connection that ends: a hang-up, or a reset if the server had not read all of the request."""


def row(channel: str = "EMAIL", priority: str = "BULK", action: str = "OPTOUT", **more: Any) -> dict[str, Any]:
    """Return one row of a write."""
    return {"channel": channel, "accountId": "01", "priority": priority, "type": action, "orgUnitId": -1} | more


class Caller:
    """A client with the demo credentials; every method is one call."""

    def __init__(self, url: str) -> None:
        digest = hashlib.md5(b"demo-password").hexdigest()
        basic = base64.b64encode(f"demo.till:{digest}".encode()).decode()
        self.url = url
        self.http = httpx.Client(
            base_url=url, headers={"Authorization": f"Basic {basic}"}, trust_env=False, verify=False, timeout=5
        )

    def write(self, user: str = "1001", *rows: dict[str, Any], method: str = "POST", **more: Any) -> httpx.Response:
        """Write these rows (an e-mail opt-out if none) of a customer."""
        body = {"subscriptions": list(rows) or [row()]} | more
        return self.http.request(method, f"/v2/customers/{user}/subscriptions", json=body)

    def read(self, user: str = "1001") -> httpx.Response:
        """Read a customer's subscriptions back."""
        return self.http.get(f"/v2/customers/{user}/subscriptions")

    def fault(self, kind: str, **more: Any) -> dict[str, Any]:
        """Order a fault."""
        reply = self.http.post("/_sandbox/faults", json={"kind": kind} | more)
        reply.raise_for_status()
        return reply.json()

    def faults(self) -> list[dict[str, Any]]:
        """Return the faults ordered so far."""
        return self.http.get("/_sandbox/faults").json()["faults"]

    def rows(self, user: str = "1001") -> list[dict[str, Any]]:
        """Return what the sandbox holds of a customer."""
        return self.http.get("/_sandbox/state", params={"user": user}).json()["customers"][user]

    def stats(self, **asked: Any) -> dict[str, Any]:
        """Return the counts."""
        return self.http.get("/_sandbox/stats", params=asked).json()

    def calls(self, **asked: Any) -> list[dict[str, Any]]:
        """Return the call log."""
        return self.http.get("/_sandbox/calls", params=asked).json()["calls"]


def code(reply: httpx.Response) -> int:
    """Return the code in the error body of a reply."""
    (error,) = reply.json()["errors"]
    return error["code"]


Starting = Callable[..., Caller]
