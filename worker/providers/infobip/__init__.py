"""Infobip: webhook subscriptions, merged member by member, and the blocklist, which is a person's opt-out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from consent.connection import ConnectionSettings, Rate
from consent.ledger.queue.overlaps import Overlap
from consent.ledger.queue.tasks import WITNESS, CustomerTask
from consent.row import ConsentRow
from worker.providers.contract import Answer, Calls, Pace, Plan, Provider, Reply, Request
from worker.providers.infobip.blocklist_calls import Search, lookup
from worker.providers.infobip.blocklist_entries import entries_of
from worker.providers.infobip.blocklist_planning import calls_for_people, series_of_people
from worker.providers.infobip.blocklist_reading import read_blocklist
from worker.providers.infobip.body import parse_body
from worker.providers.infobip.document import document_of
from worker.providers.infobip.judging import Next, judge
from worker.providers.infobip.restoring import columns_of_change
from worker.providers.infobip.row import BLOCKLIST, InfobipRow
from worker.providers.infobip.signing import auth
from worker.providers.infobip.slots import OVERLAP
from worker.providers.infobip.subscription import (
    PURPOSES,
    calls_for_subscription,
    look,
    read_subscription,
    series_of_subscription,
)
from worker.providers.verdicts import witnessed

_SUBSCRIPTION_RATE = Rate(10, 1)  # Infobip publishes no limit for these calls; this is our own moderation
_BLOCKLIST_RATE = Rate(1, 1)  # published with the operations in Infobip's OpenAPI description (x-throttling-info)


class _Infobip:
    name: str = "infobip"
    row: type[ConsentRow] = InfobipRow

    def pace(self, bucket: str, connection: ConnectionSettings) -> Pace:
        """Return the limit of subscription calls, one target each, or of blocklist calls, which carry many."""
        if bucket == BLOCKLIST:
            return Pace(connection.blocklist_rate or _BLOCKLIST_RATE, connection.blocklist_batch, BLOCKLIST)
        return Pace(connection.rate or _SUBSCRIPTION_RATE)

    def overlap(self, bucket: str) -> Overlap | None:
        """Return how entries of one person overlap; of a subscription each member and field is one by itself."""
        return OVERLAP if bucket == BLOCKLIST else None

    def plan(self, tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> Plan:
        """Plan a look at each subscription, and as few blocklist calls as there can be."""
        rules, people = _sorted(tasks)
        series = tuple(series_of_subscription(task) for task in rules if task.changes)
        return Plan((*series_of_people(people, connection), *series))

    def calls(self, tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> Calls:
        """Foretell how many calls subscriptions and people need."""
        rules, people = _sorted(tasks)
        needed = (calls_for_subscription(task, connection) for task in rules if task.changes)
        return sum(needed, calls_for_people(people, connection))

    def read(self, request: Request, reply: Reply, connection: ConnectionSettings) -> Answer:
        """Read a reply by what its call was for."""
        if request.purpose == WITNESS:
            return witnessed(reply, shown=_shows(request, reply))
        if request.purpose in PURPOSES:
            return read_subscription(request, reply, connection)
        return read_blocklist(request, reply, connection)

    def witness(self, task: CustomerTask, connection: ConnectionSettings) -> Request:
        """Return a look at a subscription or at a person's entries, to see whether Infobip answers at all."""
        if "subscription_id" in task.address:
            return replace(look(task, ()), purpose=WITNESS)
        return replace(lookup(Search((task,)), connection), purpose=WITNESS)

    columns = staticmethod(columns_of_change)
    auth = staticmethod(auth)


def _shows(request: Request, reply: Reply) -> bool:
    body, task = parse_body(reply.text), request.tasks[0]
    if judge(reply.status, body).next is not Next.LOOK:
        return False
    if "subscription_id" in task.address:
        return document_of(body.json) is not None
    return entries_of(body.json, task) is not None


def _sorted(tasks: Sequence[CustomerTask]) -> tuple[list[CustomerTask], list[CustomerTask]]:
    rules = [task for task in tasks if "subscription_id" in task.address]
    return rules, [task for task in tasks if "subscription_id" not in task.address]


INFOBIP: Provider = _Infobip()
