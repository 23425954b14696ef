"""The calls to Capillary: which changes share a body, what a body holds, and how it is read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import orjson

from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import WITNESS, ClaimedChange, CustomerTask
from consent.outcome import PermanentFailure
from worker.providers.batching import SHARED_TRIES
from worker.providers.capillary.row import read_slot
from worker.providers.contract import CallEstimate, Plan, Request

WRITE, ALONE, READBACK = "write", "alone", "readback"
"""Why a call is made: to write, to write a single row again, or to see what has become of rows."""

BY_NUMBER, BY_IDENTIFIER = "/v2/customers/{user_id}/subscriptions", "/v2/customers/lookup/subscriptions"
"""The paths of a customer."""

NOT_APPLICABLE = -1
"""What the vendor's sample sends where there is no campaign or communication."""

NOT_BY_IDENTIFIER = PermanentFailure(
    "lookup_writes_off",
    "this connection may not write by identifier: give the customer's user_id, or set LOOKUP_WRITES to true",
    ours=True,
)


def plan(tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> Plan:
    """Return one series of calls for each customer: as few bodies as the changes allow, oldest first.

    The changes of a customer that may not be called for become dead letters.
    """
    allowed = [task for task in tasks if "user_id" in task.address or connection.lookup_writes]
    forbidden = [task for task in tasks if not ("user_id" in task.address or connection.lookup_writes)]
    return Plan(
        series=tuple(_series(task, connection) for task in allowed if task.changes),
        outcomes={change.id: NOT_BY_IDENTIFIER for task in forbidden for change in task.changes},
    )


def estimate_calls(tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> CallEstimate:
    """Predict how many calls customers need: one for each body."""
    count = sum(len(series) for series in plan(tasks, connection).series)
    return CallEstimate(count, count)


def write(
    task: CustomerTask, changes: Sequence[ClaimedChange], connection: ConnectionSettings, purpose: str = WRITE
) -> Request:
    """Return the call that writes changes of one customer which share `body_head`.

    By number it is `/v2/customers/{userId}/subscriptions`, by identifier `/v2/customers/lookup/subscriptions?…`
    (docs.capillarytech.com/reference/update_subscription_details; the parameters of the lookup are from
    github.com/Capillary/api-documentation).
    """
    body = body_head(changes[0].details) | {"subscriptions": [_row(change) for change in changes]}
    path, params, template = _place(task.address)
    return Request(connection.method, path, (task,), tuple(changes), purpose, params, body, template=template)


def each_alone(request: Request, changes: Sequence[ClaimedChange], connection: ConnectionSettings) -> list[Request]:
    """Return one call for each of the changes."""
    return [write(request.tasks[0], [change], connection, ALONE) for change in changes]


def read_back(request: Request, changes: Sequence[ClaimedChange]) -> Request:
    """Return the call that shows what the customer of a written request is subscribed to."""
    return replace(request, method="GET", changes=tuple(changes), purpose=READBACK, json=None)


def witness(task: CustomerTask, _: ConnectionSettings) -> Request:
    """Return the call that shows what a customer is subscribed to, to see whether Capillary answers at all."""
    path, params, template = _place(task.address)
    return Request("GET", path, (task,), (), WITNESS, params, template=template)


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


def _series(task: CustomerTask, connection: ConnectionSettings) -> tuple[Request, ...]:
    details = task.changes[0].details
    if all(change.details is details and change.attempts < SHARED_TRIES for change in task.changes):
        return (write(task, task.changes, connection),)
    bodies: dict[bytes, list[ClaimedChange]] = {}
    for change in task.changes:
        bodies.setdefault(_body_of(change), []).append(change)
    return tuple(write(task, changes, connection) for changes in bodies.values())


def _body_of(change: ClaimedChange) -> bytes:
    alone = change.id if change.attempts >= SHARED_TRIES else None
    return orjson.dumps([body_head(change.details), alone], option=orjson.OPT_SORT_KEYS)


def _row(change: ClaimedChange) -> dict[str, Any]:
    slot = read_slot(change.slot)
    row = {
        "channel": slot.channel,
        "accountId": slot.account,
        "priority": slot.priority,
        "type": str(change.action),
        "orgUnitId": slot.org_unit,
    }
    if (name := change.details.get("source_name")) is not None:
        row["sourceName"] = name
    return row


def _place(address: Mapping[str, str]) -> tuple[str, dict[str, str], str]:
    """Return the path of a customer, its parameters, and the path as it is written for every customer."""
    if "user_id" in address:
        return f"/v2/customers/{quote(address['user_id'], safe='')}/subscriptions?format=json", {}, BY_NUMBER
    account = {"accountId": address["source_account_id"]} if "source_account_id" in address else {}
    params = {
        "source": address["source"],
        **account,
        "identifierName": address["identifier_name"],
        "identifierValue": address["identifier_value"],
        "format": "json",
    }
    return BY_IDENTIFIER, params, BY_IDENTIFIER


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
