"""Short ways to write subscriptions of apps and replies of Gupshup in a test."""

from __future__ import annotations

import json
from typing import Any
from zlib import crc32

from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import ClaimedChange, CustomerTask
from worker.providers.contract import Answer, Reply, Request
from worker.providers.gupshup import GUPSHUP
from worker.providers.gupshup.row import GupshupRow

CONNECTION = ConnectionSettings.model_validate({"provider": "gupshup", "token": "sk_throw-away"})
SEVERAL = ConnectionSettings.model_validate({"provider": "gupshup", "tokens": {"app-1": "sk_one", "app-2": "sk_two"}})

SUBSCRIPTION = {"app_id": "app-1", "subscription_id": "32595"}


def subscription(*rows: dict[str, Any], attempts: int = 0, **address: str) -> CustomerTask:
    """Return a subscription with the changes of rows, numbered from 1."""
    whole = SUBSCRIPTION | address
    changes: list[ClaimedChange] = []
    for cells in rows:
        row = GupshupRow.model_validate(whole | cells)
        changes += [
            ClaimedChange(n, "import-1", one.slot, row.action, 0, one.details, attempts, one.value)
            for n, one in enumerate(row.changes().slots, len(changes) + 1)
        ]
    return CustomerTask(crc32(json.dumps(whole).encode()), whole, tuple(changes))


def shown(**more: Any) -> dict[str, Any]:
    """Return a success as the vendor's page shows it."""
    there = {
        "active": True,
        "appId": "app-1",
        "createdOn": 1739862125507,
        "id": "32595",
        "mode": 1025,
        "modes": ["SENT", "ENQUEUED"],
        "modifiedOn": 1739870558358,
        "showOnUI": False,
        "tag": "V33i4",
        "url": "https://hooks.example.com/gupshup",
        "version": 2,
    }
    kept = {name: value for name, value in (there | more).items() if value is not ...}
    return {"status": "success", "subscription": kept}


def error(message: str) -> dict[str, Any]:
    """Return a failure as the vendor's page shows it."""
    return {"status": "error", "message": message}


def calls(*tasks: CustomerTask, connection: ConnectionSettings = CONNECTION) -> list[Request]:
    """Return every planned call."""
    return [request for series in GUPSHUP.plan(tasks, connection).series for request in series]


def first(*tasks: CustomerTask) -> Request:
    """Return the only planned call."""
    (request,) = calls(*tasks)
    return request


def read(
    request: Request,
    body: Any,
    status: int = 200,
    retry_after: float | None = None,
    connection: ConnectionSettings = CONNECTION,
) -> Answer:
    """Return what Gupshup's reading makes of a reply."""
    text = body if isinstance(body, str) else json.dumps(body)
    return GUPSHUP.read(request, Reply(status, text, retry_after), connection)


def only(answer: Answer) -> Request:
    """Return the only further call."""
    (request,) = answer.further
    return request


def outcomes(answer: Answer) -> dict[int, str]:
    """Return the code of each outcome, or its name where it has none."""
    return {id_: getattr(one, "code", type(one).__name__.lower()) for id_, one in answer.outcomes.items()}
