"""The calls to Gupshup: one write for each subscription, and a look before it only where modes are named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import quote

from consent.change import Action
from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import WITNESS, ClaimedChange, CustomerTask
from consent.outcome import Healthy, Retry, Unauthorized
from worker.providers.batching import failed_ones_alone
from worker.providers.contract import CallEstimate, Plan, Request
from worker.providers.endpoint import variable
from worker.providers.gupshup.auth import token_of
from worker.providers.gupshup.row import ACTIVE, FIELD, FORM_NAMES, MODES, joined, read_slot

LOOK, WRITE, VERIFY = "look", "write", "verify"
"""Why a call is made: to see which modes there are, to write, to see what was written."""

NO_TOKEN = Retry(
    "no_token",
    f"this app has no token: add it to {variable('<NAME>', 'TOKENS')}, or set {variable('<NAME>', 'TOKEN')}",
    counts=False,
)
"""A missing token is a fault of the connection: the app's changes wait, and other apps are not stopped."""


def plan(tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> Plan:
    """Return a series of calls for each subscription whose app has a token."""
    ready = [task for task in tasks if token_of(task.address["app_id"], connection)]
    waiting = [task for task in tasks if not token_of(task.address["app_id"], connection)]
    return Plan(
        series=tuple(_series(task) for task in ready if task.changes),
        outcomes={change.id: NO_TOKEN for task in waiting for change in task.changes},
        health=Unauthorized(NO_TOKEN.reason) if waiting and not ready else Healthy(),
    )


def estimate_calls(tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> CallEstimate:
    """Predict how many calls subscriptions need: a write each, and where modes are named a look before it."""
    first = [request for series in plan(tasks, connection).series for request in series]
    return CallEstimate(len(first), len(first) + sum(request.purpose == LOOK for request in first))


def first_call(task: CustomerTask, changes: Sequence[ClaimedChange]) -> Request:
    """Return a look where modes are added or removed, since a form holds all of them; else the write at once."""
    if any(read_slot(change.slot).kind == MODES for change in changes):
        return look(task, changes, LOOK)
    return write(task, changes)


def look(task: CustomerTask, changes: Sequence[ClaimedChange], purpose: str) -> Request:
    """Return the call that shows a subscription: GET /partner/app/{appId}/subscription/{subscriptionId}."""
    return Request("GET", _path(task), (task,), tuple(changes), purpose, template=_TEMPLATE)


def witness(task: CustomerTask, _: ConnectionSettings) -> Request:
    """Return a look at a subscription, to see whether Gupshup answers at all."""
    return look(task, (), WITNESS)


def write(task: CustomerTask, changes: Sequence[ClaimedChange], modes: Sequence[str] | None = None) -> Request:
    """Return the call that writes the fields that change, as a form; `modes` are all that there shall be.

    PUT on the same path (partner-docs.gupshup.io/reference/put_partner-app-appid-subscription-subscriptionid).
    """
    form: dict[str, str] = {} if modes is None else {"modes": joined(modes)}
    for change in changes:
        kind, member = read_slot(change.slot)
        if kind == FIELD:
            form[FORM_NAMES[member]] = _form_value(change.details[member])
        elif kind == ACTIVE:
            form[ACTIVE] = _form_value(change.action is Action.OPTIN)
        if "do_check" in change.details:
            form[FORM_NAMES["do_check"]] = _form_value(change.details["do_check"])
    return Request("PUT", _path(task), (task,), tuple(changes), WRITE, form=form, template=_TEMPLATE)


def without_field(request: Request, field: str) -> Request:
    """Return the same write without one field."""
    form = {name: value for name, value in (request.form or {}).items() if name != field}
    changes = tuple(one for one in request.changes if read_slot(one.slot) != (FIELD, field))
    return replace(request, changes=changes, form=form)


def _series(task: CustomerTask) -> tuple[Request, ...]:
    return tuple(first_call(task, changes) for changes in failed_ones_alone(task.changes))


_TEMPLATE = "/partner/app/{app_id}/subscription/{subscription_id}"


def _path(task: CustomerTask) -> str:
    app, id_ = (quote(task.address[name], safe="") for name in ("app_id", "subscription_id"))
    return f"/partner/app/{app}/subscription/{id_}"


def _form_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
