"""Short ways to write customers, changes and replies of Capillary in a test."""

from __future__ import annotations

import json
from typing import Any

from consent.change import Action
from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import ClaimedChange, CustomerTask
from worker.providers.capillary import CAPILLARY
from worker.providers.capillary.requests import write
from worker.providers.capillary.row import slot_text
from worker.providers.contract import Answer, Reply, Request

CONNECTION = ConnectionSettings(provider="capillary", base_url="https://capillary.example.com")

BY_NUMBER = {"user_id": "1001"}
BY_MOBILE = {"identifier_name": "mobile", "identifier_value": "+15550100", "source": "INSTORE"}


def change(  # noqa: PLR0917 - each is a word of the row
    id_: int,
    channel: str = "EMAIL",
    priority: str = "BULK",
    action: str = "OPTOUT",
    account: str = "01",
    org_unit: int = 200,
    attempts: int = 0,
    **details: Any,
) -> ClaimedChange:
    """Return a claimed change."""
    slot = slot_text(channel, account, priority, org_unit)
    return ClaimedChange(id_, "import-1", slot, Action(action), 0, details, attempts)


def customer(*changes: ClaimedChange, address: dict[str, str] | None = None) -> CustomerTask:
    """Return a customer with due changes."""
    return CustomerTask(1, address or BY_NUMBER, changes)


FOUR = (
    change(1, "EMAIL", "BULK", "OPTOUT"),
    change(2, "MOBILE", "BULK", "OPTOUT"),
    change(3, "EMAIL", "TRANS", "OPTIN"),
    change(4, "MOBILE", "TRANS", "OPTIN"),
)
"""The rows of the vendor's samples."""


def written(*changes: ClaimedChange, purpose: str = "write") -> Request:
    """Return the call that writes these changes of one customer."""
    return write(customer(*changes), changes, CONNECTION, purpose)


def row(channel: str, priority: str, action: str, **more: Any) -> dict[str, Any]:
    """Return a row as Capillary echoes it."""
    return {"channel": channel, "priority": priority, "type": action, **more}


def rows(*echoed: dict[str, Any], warnings: list[Any] | None = None) -> dict[str, Any]:
    """Return a body of success that echoes these rows."""
    return {"subscriptions": list(echoed), "warnings": warnings or []}


def failure(*codes: int, message: str = "failed") -> dict[str, Any]:
    """Return a body of failure as the vendor's page shows it."""
    return {"warnings": [], "errors": [{"status": False, "message": message, "code": code} for code in codes]}


def row_failed(channel: str, priority: str) -> dict[str, Any]:
    """Return the documented warning about one row."""
    text = f"Failed to update subscription for {channel} channel and priority {priority}."
    return {"status": False, "code": 91022, "message": text}


def read(request: Request, body: Any, status: int = 200, retry_after: float | None = None) -> Answer:
    """Return what Capillary's reading makes of a reply."""
    text = body if isinstance(body, str) else json.dumps(body)
    return CAPILLARY.read(request, Reply(status, text, retry_after), CONNECTION)


def ids(request: Request) -> set[int]:
    """Return the ids of the changes of a call."""
    return {each.id for each in request.changes}
