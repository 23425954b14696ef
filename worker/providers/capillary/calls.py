"""The calls to Capillary: writing rows of one customer, and reading the customer's subscriptions back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import WITNESS, ClaimedChange, CustomerTask
from worker.providers.capillary.slots import read_slot
from worker.providers.contract import Request

WRITE, ALONE, READBACK = "write", "alone", "readback"
"""Why a call is made: to write, to write a single row again, or to see what has become of rows."""

NOT_APPLICABLE = -1
"""What the seed page sends where there is no campaign or communication."""


def write(
    task: CustomerTask, changes: Sequence[ClaimedChange], connection: ConnectionSettings, purpose: str = WRITE
) -> Request:
    """Return the call that writes changes of one customer which share `body_head`.

    By number it is `/v2/customers/{userId}/subscriptions`, by identifier `/v2/customers/lookup/subscriptions?…` (seed
    page "Update Subscription Details"; the parameters are from Capillary's older documentation).
    """
    body = body_head(changes[0].details) | {"subscriptions": [_row(change) for change in changes]}
    path, params = _place(task.address)
    return Request(connection.method, path, (task,), tuple(changes), purpose, params, json=body)


def each_alone(request: Request, changes: Sequence[ClaimedChange], connection: ConnectionSettings) -> list[Request]:
    """Return one call for each of the changes."""
    return [write(request.tasks[0], [change], connection, ALONE) for change in changes]


def read_back(request: Request, changes: Sequence[ClaimedChange]) -> Request:
    """Return the call that shows what the customer of a written request is subscribed to."""
    return replace(request, method="GET", changes=tuple(changes), purpose=READBACK, json=None)


def witness(task: CustomerTask, _: ConnectionSettings) -> Request:
    """Return the call that shows what a customer is subscribed to, to see whether Capillary answers at all."""
    path, params = _place(task.address)
    return Request("GET", path, (task,), (), WITNESS, params)


def body_head(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a body says once for all of its rows: changes that differ in it cannot share a body."""
    head: dict[str, Any] = {
        "communicationId": details.get("communication_id", NOT_APPLICABLE),
        "campaignId": details.get("campaign_id", NOT_APPLICABLE),
    }
    if (reason := details.get("reason")) is not None:
        head["reason"] = reason
    if scope := _present(scope=details.get("scope"), subScope=details.get("sub_scope")):
        head["scope"] = scope
    return head


def _row(change: ClaimedChange) -> dict[str, Any]:
    slot = read_slot(change.slot)
    row = {
        "channel": slot.channel,
        "accountId": slot.account,
        "priority": slot.priority,
        "type": change.action.value,
        "orgUnitId": slot.org_unit,
    }
    if (name := change.details.get("source_name")) is not None:
        row["sourceName"] = name
    return row


def _place(address: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    if "user_id" in address:
        return f"/v2/customers/{quote(address['user_id'], safe='')}/subscriptions?format=json", {}
    account = {"accountId": address["source_account_id"]} if "source_account_id" in address else {}
    return "/v2/customers/lookup/subscriptions", {
        "source": address["source"],
        **account,
        "identifierName": address["identifier_name"],
        "identifierValue": address["identifier_value"],
        "format": "json",
    }


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
