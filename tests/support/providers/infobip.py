"""Short ways to write subscriptions, people and replies of Infobip in a test."""

from __future__ import annotations

import json
from typing import Any

from consent.change import Action
from consent.connection import ConnectionSettings
from consent.ledger.merge import Version
from consent.ledger.queue.tasks import ClaimedChange, CustomerTask
from consent.times import to_micros
from worker.providers.contract import Answer, Plan, Reply, Request
from worker.providers.infobip import INFOBIP
from worker.providers.infobip.row import InfobipRow

CONNECTION = ConnectionSettings.model_validate({"provider": "infobip", "api_key": "throw-away"})
VERIFYING = CONNECTION.model_copy(update={"verify": True})

SUBSCRIPTION = {"channel": "SMS", "subscription_id": "ABC-123-DEF"}


def claimed(id_: int, attempts: int = 0, **cells: Any) -> list[tuple[dict[str, str], ClaimedChange]]:
    """Return address and change of each change of a row, numbered from `id_`."""
    row = InfobipRow.model_validate(cells)
    given = to_micros(row.effective_at) if row.effective_at else 0
    return [
        (
            row.changes().address,
            ClaimedChange(n, "import-1", one.slot, row.action, given, one.details, attempts, one.value),
        )
        for n, one in enumerate(row.changes().slots, id_)
    ]


def rule(*rows: dict[str, Any], attempts: int = 0) -> CustomerTask:
    """Return the subscription with the changes of rows, numbered from 1."""
    changes: list[ClaimedChange] = []
    for cells in rows:
        changes += [change for _, change in claimed(len(changes) + 1, attempts, **SUBSCRIPTION, **cells)]
    return CustomerTask(1, SUBSCRIPTION, tuple(changes))


def person(id_: int, action: str = "OPTOUT", tries: int = 0, attempts: int = 0, **cells: Any) -> CustomerTask:
    """Return a person on the blocklist; by default each has a number of their own."""
    return person_with(id_, {"action": action, **cells}, tries=tries, attempts=attempts)


def person_with(id_: int, *rows: dict[str, Any], tries: int = 0, attempts: int = 0) -> CustomerTask:
    """Return a person with the changes of these rows, numbered from `id_`, as the ledger claims it."""
    changes = [
        claimed(number, attempts, **{"destination": f"1555010{id_:04}", **cells})[0]
        for number, cells in enumerate(rows, id_)
    ]
    standing = {c.slot: Version(c.effective_at, c.action, c.id) for _, c in changes}
    return CustomerTask(100 + id_, changes[0][0], tuple(change for _, change in changes), tries, standing)


def document(**more: Any) -> dict[str, Any]:
    """Return a subscription as a GET shows it."""
    there = {
        "subscriptionId": "ABC-123-DEF",
        "name": "Default group",
        "profile": {"profileId": "NOTIF-32395", "security": {"authId": "NEWAUTH-9291"}},
        "events": ["DELIVERY"],
        "criteria": [{"applicationId": "production", "entityId": "entity1"}],
        "resources": ["1234"],
        "users": ["user1", "user2"],
    }
    return {name: value for name, value in (there | more).items() if value is not ...}


IDS_ONLY = {"subscriptionId": "ABC-123-DEF", "profile": {"profileId": "NOTIF-32395"}}
"""What a PUT replies ("Update subscription")."""


def entry(destination: str, **more: Any) -> dict[str, Any]:
    """Return an entry of the blocklist as a GET shows it."""
    there = {"destination": destination, "sourceType": "CUSTOM", "createdDate": "2022-08-18T12:36:42.123Z"}
    return {name: value for name, value in (there | more).items() if value is not ...}


def shown(*entries: dict[str, Any]) -> dict[str, Any]:
    """Return what a GET of the blocklist replies."""
    return {"results": list(entries), "paging": {"page": 0, "size": 1000, "totalPages": 1}}


def classic(message_id: str, **validation: list[str]) -> dict[str, Any]:
    """Return an error in the older envelope."""
    fault: dict[str, Any] = {"messageId": message_id, "text": "words"}
    return {"requestError": {"serviceException": fault | ({"validationErrors": validation} if validation else {})}}


def newer(code: str, *violations: tuple[str, str]) -> dict[str, Any]:
    """Return an error in the newer envelope."""
    listed = [{"property": path, "violation": message} for path, message in violations]
    return {"errorCode": code, "description": "words", "action": "words", "violations": listed, "resources": []}


def plan(*tasks: CustomerTask, connection: ConnectionSettings = CONNECTION) -> Plan:
    """Return what Infobip plans."""
    return INFOBIP.plan(tasks, connection)


def first(*tasks: CustomerTask, connection: ConnectionSettings = CONNECTION) -> Request:
    """Return the only call that is planned."""
    ((request,),) = plan(*tasks, connection=connection).series
    return request


def read(
    request: Request,
    body: Any,
    status: int = 200,
    retry_after: float | None = None,
    connection: ConnectionSettings = CONNECTION,
) -> Answer:
    """Return what Infobip's reading makes of a reply."""
    text = body if isinstance(body, str) else json.dumps(body)
    return INFOBIP.read(request, Reply(status, text, retry_after), connection)


def only(answer: Answer) -> Request:
    """Return the only further call."""
    (request,) = answer.further
    return request


def ids(request: Request) -> set[int]:
    """Return the ids of the changes of a call."""
    return {change.id for change in request.changes}


def outcomes(answer: Answer) -> dict[int, str]:
    """Return the code of each outcome, or its name where it has none."""
    return {id_: getattr(one, "code", type(one).__name__.lower()) for id_, one in answer.outcomes.items()}


OPTIN, OPTOUT = Action.OPTIN.value, Action.OPTOUT.value


def numbers(*ids_: int) -> list[dict[str, str]]:
    """Return destinations as a body holds them."""
    return [{"to": f"1555010{id_:04}"} for id_ in ids_]
