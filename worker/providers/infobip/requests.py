"""The calls to Infobip: a look at each subscription before it is written, and the blocklist's calls for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import quote

from consent.change import Action
from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import WITNESS, ClaimedChange, CustomerTask
from worker.providers.batching import batches
from worker.providers.contract import CallEstimate, Plan, Request
from worker.providers.infobip.blocklist_requests import Search, estimate_for_people, lookup, series_of_people
from worker.providers.infobip.row import offers, read_slot

LOOK, WRITE, VERIFY = "look", "write", "verify"
SUBSCRIPTION_PURPOSES = (LOOK, WRITE, VERIFY)
"""Why a call is made: to see what a subscription holds, to write it, to see whether it holds what was written."""

MOST_TOGETHER = 1024
"""Changes that are put into one subscription at once."""


def plan(tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> Plan:
    """Return a look at each subscription, and as few blocklist calls as there can be."""
    subscriptions, people = _split(tasks)
    looks = tuple(_looks(task) for task in subscriptions if task.changes)
    return Plan((*series_of_people(people, connection), *looks))


def estimate_calls(tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> CallEstimate:
    """Predict how many calls subscriptions and people need."""
    subscriptions, people = _split(tasks)
    needed = (_estimate(task, connection) for task in subscriptions if task.changes)
    return sum(needed, estimate_for_people(people, connection))


def witness(task: CustomerTask, connection: ConnectionSettings) -> Request:
    """Return a look at a subscription or at a person's entries, to see whether Infobip answers at all."""
    if is_subscription(task):
        return replace(look(task, ()), purpose=WITNESS)
    return replace(lookup(Search((task,)), connection), purpose=WITNESS)


def look(task: CustomerTask, changes: Sequence[ClaimedChange]) -> Request:
    """Return the call that shows a subscription; the PUT that follows has the same path.

    (infobip.com/docs/api/platform/subscriptions-api/update-subscription.)
    """
    channel, id_ = (quote(task.address[name], safe="") for name in ("channel", "subscription_id"))
    path = f"/subscriptions/1/subscription/{channel}/{id_}"
    return Request("GET", path, (task,), tuple(changes), LOOK, template=_TEMPLATE)


_TEMPLATE = "/subscriptions/1/subscription/{channel}/{subscription_id}"


def is_subscription(task: CustomerTask) -> bool:
    """Say whether a target is a subscription, and not a person on the blocklist."""
    return "subscription_id" in task.address


def is_offered(channel: str, change: ClaimedChange) -> bool:
    """Say whether Infobip surely takes a change: it ignores an event that the channel does not offer."""
    kind, member = read_slot(change.slot)
    return kind != "events" or change.action is Action.OPTOUT or offers(channel, member)


def _looks(task: CustomerTask) -> tuple[Request, ...]:
    """Return a look at the subscription for all of its changes; those that failed often in smaller batches."""
    groups = batches(task.changes, MOST_TOGETHER, lambda change: change.attempts)
    return tuple(look(task, group) for group in groups)


def _estimate(task: CustomerTask, connection: ConnectionSettings) -> CallEstimate:
    """Predict looks, and where something changes writes and, where it matters, looks after them."""
    looks, channel = _looks(task), task.address["channel"]
    after = [connection.verify or not all(is_offered(channel, one) for one in call.changes) for call in looks]
    return CallEstimate(len(looks), 2 * len(looks) + sum(after))


def _split(tasks: Sequence[CustomerTask]) -> tuple[list[CustomerTask], list[CustomerTask]]:
    """Split tasks into those of subscriptions and those of people."""
    return [task for task in tasks if is_subscription(task)], [task for task in tasks if not is_subscription(task)]
