"""The three calls about people on the blocklist: make entries, look for one person's, remove entries.

All from Infobip's OpenAPI description of /platform/1/blocklists: POST and DELETE are answered 202 without a body and
done later; a DELETE removes only entries all of whose properties it lists; GET shows the entries there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import ClaimedChange, CustomerTask
from worker.providers.contract import Request
from worker.providers.infobip.slots import read_place

BLOCK, LOOKUP, UNBLOCK = "block", "lookup", "unblock"
"""Why a call is made."""

PATH = "/platform/1/blocklists"
PAGE = 1000
"""Entries that one look shows at most: far more than one person can have."""

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
    """What a row of lookups knows: whom it still asks about (the first one now), and what it has found.

    `found` are the entries to remove, `absent` those that have to be made again.
    """

    waiting: tuple[CustomerTask, ...]
    found: tuple[Item, ...] = ()
    absent: tuple[Item, ...] = ()


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
    """Return the call that makes or removes these entries; its memo tells which place of the body is whose."""
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
    return Request(method, PATH, _tasks_of(listed), changes, purpose, json={"blocklist": body}, memo=memo)


def lookup(search: Search, connection: ConnectionSettings) -> Request:
    """Return the call that shows all entries of one person; the others of the row wait for their turn or for its end.

    All of them, whatever is sought: an entry for everything decides over one for a channel.
    """
    params = {"destination": search.waiting[0].address["destination"]}
    if connection.account_key:
        params["accountKey"] = connection.account_key
    decided = [*search.absent, *search.found]
    tasks = tuple({task.target_id: task for task in (*search.waiting, *_tasks_of(decided))}.values())
    changes = [*(one for task in search.waiting for one in task.changes), *(item.change for item in decided)]
    return Request("GET", PATH, tasks, _each_once(changes), LOOKUP, {**params, "size": str(PAGE)}, memo=search)


def properties_of(entry: Mapping[str, Any]) -> Properties:
    """Return what a DELETE has to list of an entry."""
    names = ("accountKey", "channel", "sender", "sourceType")
    return tuple((name, entry[name]) for name in names if isinstance(entry.get(name), str))


def _tasks_of(items: Iterable[Item]) -> tuple[CustomerTask, ...]:
    return tuple({item.task.target_id: item.task for item in items}.values())


def _each_once(changes: Iterable[ClaimedChange]) -> tuple[ClaimedChange, ...]:
    return tuple({change.id: change for change in changes}.values())
