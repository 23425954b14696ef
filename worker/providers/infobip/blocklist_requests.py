"""The calls about people on the blocklist: make entries, look for one person's, remove entries; one call a second.

All from Infobip's OpenAPI description of /platform/1/blocklists: POST and DELETE are answered 202 without a body and
done later; a DELETE removes only entries all of whose properties it lists; GET shows the entries there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from consent.change import Action
from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import ClaimedChange, CustomerTask
from worker.providers.batching import batches
from worker.providers.contract import CallEstimate, Request
from worker.providers.infobip.blocklist_slots import read_place

BLOCK, LOOKUP, UNBLOCK = "block", "lookup", "unblock"
"""Why a call is made."""

PATH = "/platform/1/blocklists"
PAGE = 1000
"""Entries that one look shows at most: far more than one person can have."""

LOOKUPS = 5
"""People who are looked up in one delivery batch, before one DELETE for all of them.

A chain of lookups has to end within the batch's lease, even where several batches share one call a second; and an
opt-out that comes meanwhile should not wait for long. The others are given back and come next.
"""

Properties = tuple[tuple[str, str], ...]
"""What an entry says beside its destination, by Infobip's names: a call lists it once for many destinations."""


class Item(NamedTuple):
    """One destination in a body, and the change that it is there for."""

    task: CustomerTask
    change: ClaimedChange
    destination: str
    properties: Properties


@dataclass(frozen=True, slots=True)
class Search:
    """What a chain of lookups knows: the tasks that it still asks about (the first one now), and what it has found.

    `found` are the entries to remove, `absent` those that have to be made again.
    """

    waiting: tuple[CustomerTask, ...]
    found: tuple[Item, ...] = ()
    absent: tuple[Item, ...] = ()


def series_of_people(tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> list[tuple[Request, ...]]:
    """Return a call for each batch of opt-outs, and the first of a chain of lookups for opt-ins.

    An opt-in needs a lookup, because only an entry's exact properties remove it. With `verify` an opt-out that was
    sent before is looked up as well, and sent again only if its entry is not there. Of a person with both, the
    opt-outs go now, and the opt-ins are given back.
    """
    fresh, sought = _fresh_and_sought(tasks, connection)
    chains = islice(batches(sought, LOOKUPS, _attempts), 1)
    return [
        *((block(batch),) for batch in _batches(fresh, connection)),
        *((lookup(Search(chain), connection),) for chain in chains),
    ]


def estimate_for_people(tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> CallEstimate:
    """Predict how many calls people need: one for each batch of opt-outs; for opt-ins a look each, then a removal.

    With `verify` each of them is looked up afterwards, too.
    """
    fresh, sought = _fresh_and_sought(tasks, connection)
    writes = sum(1 for _ in _batches(fresh, connection))
    looked = [*sought, *(task for task in fresh if len(_opt_outs(task)) < len(task.changes))]
    chains = sum(1 for _ in batches(looked, LOOKUPS, _attempts))
    least = writes + len(looked) + (len(fresh) if connection.verify else 0)
    return CallEstimate(least, least + chains + (len(looked) if connection.verify else 0))


def entry_of(task: CustomerTask, change: ClaimedChange, connection: ConnectionSettings) -> Item:
    """Return the entry that a change is about."""
    place = read_place(change.slot)
    named = {} if place is None else {name: part for name, part in place._asdict().items() if part}
    account = {"accountKey": connection.account_key} if connection.account_key else {}
    return Item(task, change, task.address["destination"], properties_of({**named, **account}))


def block(entries: Iterable[Item]) -> Request:
    """Return the call that makes these entries."""
    return write("POST", BLOCK, entries)


def write(method: str, purpose: str, items: Iterable[Item]) -> Request:
    """Return the call that makes or removes these entries; its memo has the items in the order of the body."""
    groups: dict[Properties, list[Item]] = {}
    for item in items:
        groups.setdefault(item.properties, []).append(item)
    body = [
        {"destinations": [{"to": item.destination} for item in group], **dict(properties)}
        for properties, group in groups.items()
    ]
    memo = tuple(tuple(group) for group in groups.values())
    listed = [item for group in memo for item in group]
    changes = _each_once(item.change for item in listed)
    payload = {"blocklist": body}
    return Request(method, PATH, _tasks_of(listed), changes, purpose, json=payload, memo=memo, template=PATH)


def lookup(search: Search, connection: ConnectionSettings) -> Request:
    """Return the call that shows all entries of one person; the others wait for their turn or for the end.

    All of them, whatever is sought: an entry for everything decides over one for a channel.
    """
    params = {"destination": search.waiting[0].address["destination"]}
    if connection.account_key:
        params["accountKey"] = connection.account_key
    decided = [*search.absent, *search.found]
    tasks = tuple({task.target_id: task for task in (*search.waiting, *_tasks_of(decided))}.values())
    changes = [*(one for task in search.waiting for one in task.changes), *(item.change for item in decided)]
    query = {**params, "size": str(PAGE)}
    return Request("GET", PATH, tasks, _each_once(changes), LOOKUP, query, memo=search, template=PATH)


def properties_of(entry: Mapping[str, Any]) -> Properties:
    """Return what a DELETE has to list of an entry."""
    names = ("accountKey", "channel", "sender", "sourceType")
    return tuple((name, entry[name]) for name in names if isinstance(entry.get(name), str))


def _fresh_and_sought(
    tasks: Sequence[CustomerTask], connection: ConnectionSettings
) -> tuple[list[CustomerTask], list[CustomerTask]]:
    """Return those who have opt-outs to send, and those who have to be looked up."""
    fresh: list[CustomerTask] = []
    sought: list[CustomerTask] = []
    for task in tasks:
        if task.changes:
            sent = connection.verify and task.tries > 0
            (fresh if _opt_outs(task) and not sent else sought).append(task)
    return fresh, sought


def _batches(tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> Iterator[list[Item]]:
    """Yield the entries of opt-outs in batches, all of one person in the same one."""
    for group in batches(tasks, connection.blocklist_batch, _attempts):
        batch: list[Item] = []
        for task in group:
            entries = [entry_of(task, change, connection) for change in _opt_outs(task)]
            if batch and len(batch) + len(entries) > connection.blocklist_batch:
                yield batch
                batch = []
            batch += entries
        yield batch


def _opt_outs(task: CustomerTask) -> list[ClaimedChange]:
    return [change for change in task.changes if change.action is Action.OPTOUT]


def _attempts(task: CustomerTask) -> int:
    return max(change.attempts for change in task.changes)


def _tasks_of(items: Iterable[Item]) -> tuple[CustomerTask, ...]:
    return tuple({item.task.target_id: item.task for item in items}.values())


def _each_once(changes: Iterable[ClaimedChange]) -> tuple[ClaimedChange, ...]:
    return tuple({change.id: change for change in changes}.values())
