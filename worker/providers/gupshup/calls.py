"""The calls about one subscription of an app: look, write, and look again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

from consent.change import Action
from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import WITNESS, ClaimedChange, CustomerTask
from worker.providers.contract import Request
from worker.providers.gupshup.modes import joined
from worker.providers.gupshup.slots import ACTIVE, FIELD, FORM_NAMES, MODES, read_slot

LOOK, WRITE, VERIFY = "look", "write", "verify"
"""Why a call is made: to see which modes there are, to write, to see what was written."""


def first_call(task: CustomerTask, changes: Sequence[ClaimedChange]) -> Request:
    """Return a look where modes are added or removed, since a form holds all of them; else the write at once."""
    if any(read_slot(change.slot).kind == MODES for change in changes):
        return look(task, changes, LOOK)
    return write(task, changes)


def look(task: CustomerTask, changes: Sequence[ClaimedChange], purpose: str) -> Request:
    """GET /partner/app/{appId}/subscription/{subscriptionId} (partner-docs.gupshup.io)."""
    return Request("GET", _path(task), (task,), tuple(changes), purpose)


def witness(task: CustomerTask, _: ConnectionSettings) -> Request:
    """Return a look at a subscription, to see whether Gupshup answers at all."""
    return look(task, (), WITNESS)


def write(task: CustomerTask, changes: Sequence[ClaimedChange], modes: Sequence[str] | None = None) -> Request:
    """PUT the fields that change, as a form (seed page); `modes` are all that there shall be."""
    form: dict[str, str] = {} if modes is None else {"modes": joined(modes)}
    for change in changes:
        kind, member = read_slot(change.slot)
        if kind == FIELD:
            form[FORM_NAMES[member]] = _worded(change.details[member])
        elif kind == ACTIVE:
            form[ACTIVE] = _worded(change.action is Action.OPTIN)
        if "do_check" in change.details:
            form[FORM_NAMES["do_check"]] = _worded(change.details["do_check"])
    return Request("PUT", _path(task), (task,), tuple(changes), WRITE, form=form)


def without_field(request: Request, field: str) -> Request:
    """Return the same write without one field."""
    form: Mapping[str, str] = {name: value for name, value in (request.form or {}).items() if name != field}
    changes = tuple(one for one in request.changes if read_slot(one.slot) != (FIELD, field))
    return replace(request, changes=changes, form=form)


def _path(task: CustomerTask) -> str:
    app, id_ = (quote(task.address[name], safe="") for name in ("app_id", "subscription_id"))
    return f"/partner/app/{app}/subscription/{id_}"


def _worded(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
