"""From customers to calls: as few bodies as their changes allow, oldest first."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import ClaimedChange, CustomerTask
from consent.outcome import Rejected
from worker.providers.capillary.calls import body_head, write
from worker.providers.contract import Calls, Plan, Request

NOT_BY_IDENTIFIER = Rejected(
    "lookup_writes_off",
    "this connection may not write by identifier: give the customer's user_id, or set LOOKUP_WRITES to true",
)

SHARED_TRIES = 3
"""After so many answers a change travels alone, so that a poisonous row harms only itself."""


def plan(tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> Plan:
    """Return one series of calls for each customer, and a rejection for each that may not be called for."""
    sendable = [task for task in tasks if "user_id" in task.address or connection.lookup_writes]
    refused = [task for task in tasks if not ("user_id" in task.address or connection.lookup_writes)]
    return Plan(
        series=tuple(_series(task, connection) for task in sendable if task.changes),
        outcomes={change.id: NOT_BY_IDENTIFIER for task in refused for change in task.changes},
    )


def calls(tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> Calls:
    """Foretell how many calls customers need: one for each body."""
    count = sum(len(series) for series in plan(tasks, connection).series)
    return Calls(count, count)


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
