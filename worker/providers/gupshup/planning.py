"""From subscriptions to calls: one write each, and a look before it only where modes are named."""

from __future__ import annotations

from collections.abc import Sequence

from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import CustomerTask
from consent.outcome import Refused, TryLater, Well
from worker.providers.contract import Calls, Plan, Request
from worker.providers.endpoint import variable
from worker.providers.gupshup.calls import LOOK, first_call
from worker.providers.gupshup.signing import token_of

SHARED_TRIES = 3
"""After so many answers a change travels alone, so that a poisonous one harms only itself."""

NO_TOKEN = TryLater(
    "no_token",
    f"this app has no token: add it to {variable('<NAME>', 'TOKENS')}, or set {variable('<NAME>', 'TOKEN')}",
    counts=False,
)
"""A missing token is nobody's fault but the connection's: the app's changes wait, and other apps are not stopped."""


def plan(tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> Plan:
    """Return a series of calls for each subscription whose app has a token."""
    ready = [task for task in tasks if token_of(task.address["app_id"], connection)]
    waiting = [task for task in tasks if not token_of(task.address["app_id"], connection)]
    return Plan(
        series=tuple(_series(task) for task in ready if task.changes),
        outcomes={change.id: NO_TOKEN for task in waiting for change in task.changes},
        health=Refused(NO_TOKEN.reason) if waiting and not ready else Well(),
    )


def calls(tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> Calls:
    """Foretell how many calls subscriptions need: a write each, and where modes are named a look before it."""
    first = [request for series in plan(tasks, connection).series for request in series]
    return Calls(len(first), len(first) + sum(request.purpose == LOOK for request in first))


def _series(task: CustomerTask) -> tuple[Request, ...]:
    together = [change for change in task.changes if change.attempts < SHARED_TRIES]
    alone = [[change] for change in task.changes if change.attempts >= SHARED_TRIES]
    return tuple(first_call(task, changes) for changes in [together, *alone] if changes)
